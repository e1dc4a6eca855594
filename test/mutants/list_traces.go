package main

// traceMutations are about what hooks are told, and what they may do.
var traceMutations = []mutation{
	{
		takesOut: "a key that is written again keeps its trace",
		edits: []edit{
			{"local.(*bearer).restate", "want.Holds, want.Trace = b.carried.keys(), b.trace", "want.Holds = b.carried.keys()"},
		},
		tests: []string{"TestEachKeyHasTheTraceOfItsCall"},
	},
	{
		takesOut: "the trace of an entry is shown only if it is a traceparent",
		edits: []edit{
			{"wire.DecodeHolder", `h.Trace = ""`, ""},
		},
		tests: []string{"TestOnlyATraceparentIsWritten"},
	},
	{
		takesOut: "what a hook returns is written only if it is a traceparent",
		edits: []edit{
			{"etcdlock.traceparentOf", "wire.Traceparent(s)", `s != ""`},
		},
		tests: []string{"TestOnlyATraceparentIsWritten"},
	},
	{
		takesOut: "a waiter is behind an entry only after a wait in etcd",
		edits: []edit{
			{"etcdlock.behind", "err != nil || of.Path() != local.PathQueued", "err != nil"},
		},
		tests: []string{"TestAHandOverInMemoryIsBehindNoEntry"},
	},
}
