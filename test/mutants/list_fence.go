package main

// fenceMutations are about what a resource refuses.
var fenceMutations = []mutation{
	{
		takesOut: "an equal token is accepted",
		edits: []edit{
			{"fence.(*Memory).Check", "token.Less(seen)", "token.Compare(seen) <= 0"},
		},
		tests: []string{"TestAnEqualTokenIsAcceptedAndAnOlderOneRefused"},
	},
	{
		takesOut: "a database accepts an equal token",
		edits: []edit{
			{"fencesql.claim", "<=", "<"},
			{"fencesql.Dialect.Check", "if token.Less(seen) {", "if token.Compare(seen) <= 0 {"},
		},
		tests: []string{"TestAHolderWritesMoreThanOnceAndAnOlderOneIsRefused"},
	},
	{
		takesOut: "a database compares the epoch first",
		edits: []edit{
			{"fencesql.claim", "(f.epoch, f.token) <= (excluded.epoch, excluded.token)", "f.token <= excluded.token"},
		},
		tests: []string{"TestEpochAndTokenAreComparedAsAPairOf64Bits"},
	},
	{
		takesOut: "the check of a transaction",
		edits: []edit{
			{"fencesql.Dialect.try", "d.Check(ctx, tx, resource, token)", "error(nil)"},
		},
		tests: []string{"TestTheWriteOfAProcessThatWasStoppedIsRefused", "TestALateWriteIsRefused", "TestNoStaleWriteWithTheFenceAndSomeWithout"},
	},
	{
		takesOut: "a conflict is tried again only while the hold stands",
		edits: []edit{
			{"fencesql.Dialect.Tx", "!d.Retryable(err) && ctx.Err() == nil", "true"},
		},
		tests: []string{"TestAConflictIsTriedAgainWhileTheHoldStands"},
	},
	{
		takesOut: "each message of a stream is checked",
		edits: []edit{
			{"fencegrpc.(*serverStream).RecvMsg", "return s.check(message)", "return nil"},
		},
		tests: []string{"TestAStreamIsCheckedWithEachMessage"},
	},
	{
		takesOut: "a read needs no token",
		edits: []edit{
			{"fencegrpc.check", `resource == ""`, "false"},
		},
		tests: []string{"TestCallsThatReadAreNotChecked"},
	},
	{
		takesOut: "the text of a database's error is not sent to clients",
		edits: []edit{
			{"fencegrpc.check", `"the fencing token could not be checked: try again while the lock is held"`, "err.Error()"},
		},
		tests: []string{"TestEachRefusalHasItsCode"},
	},
}
