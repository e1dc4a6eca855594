package main

// traceMutations are about what hooks are told, and what they may do.
var traceMutations = []mutation{
	{
		takesOut: "a key that is written again keeps its trace",
		edits: []edit{
			{"local.restate", "want.Holds, want.Trace = carried.keys(), by.Trace", "want.Holds = carried.keys()"},
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
	{
		takesOut: "a hook that panics keeps nothing from other traces",
		edits: []edit{
			{"etcdlock.callAll", "defer callAll(hooks[1:], ctx, info)\nhooks[0](ctx, info)", "hooks[0](ctx, info)\ncallAll(hooks[1:], ctx, info)"},
		},
		tests: []string{"TestAHookThatPanicsKeepsNothingFromOtherTraces"},
	},
	{
		takesOut: "the states of a session are not dropped for a hook that blocks",
		edits: []edit{
			{"etcdlock.(*tracer).report", "PutAlways", "Put"},
		},
		tests: []string{"TestNoStateOfASessionIsDroppedForAHookThatBlocks"},
	},
	{
		takesOut: "the release of a Locker is reported",
		edits: []edit{
			{"etcdlock.(*locker).Unlock", "lock.abandon()", "lock.of.Abandon()"},
		},
		tests: []string{"TestALockerReportsItsReleaseInTheGoroutineOfItsCall"},
	},
	{
		takesOut: "a term that was transferred is told from one that was resigned",
		edits: []edit{
			{"etcdlock.(*Term).transfer", "t.transferred.Store(true)", ""},
		},
		tests: []string{"TestLogTraceTellsWhyTheWorkOfATermHasEnded"},
	},
	{
		takesOut: "a lease that cannot have expired has another end in an audit",
		edits: []edit{
			{"queues.endOf", "case err == nil && live && lasted:", "case false:"},
		},
		tests: []string{"TestAnAuditTellsAnExpiryFromOtherEndsOfALease"},
	},
	{
		takesOut: "the exporter's age of a hold begins with its grant",
		edits: []edit{
			{"exporter.(*Exporter).grant", "x.granted == nil && !e.Since.IsZero()", "!e.Since.IsZero()"},
		},
		tests: []string{"TestTheAgeOfAHoldBeginsWithItsGrant"},
	},
}
