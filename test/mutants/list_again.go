package main

// againMutations are about a release that enters again by its transaction.
var againMutations = []mutation{
	{
		takesOut: "an entry that enters again behind unmarked ones is not alone",
		edits: []edit{
			{"queue.(*Queue).enteredAgain", "!e.asleep && len(list.places) == 0 && !list.past", "!e.asleep"},
		},
		tests: []string{"TestAnEntryAgainBehindUnmarkedOnesLooks"},
	},
	{
		takesOut: "an entry that enters again behind an earlier list is not alone",
		edits: []edit{
			{"queue.(*Queue).enteredAgain", " && !list.past", ""},
		},
		tests: []string{"TestAnEntryAgainIsNotAloneBehindAnEarlierList"},
	},
	{
		takesOut: "an entry that enters again sleeps only if another one was told",
		edits: []edit{
			{"queue.(*Queue).enteredAgain", "e.asleep = a.by.told >= 0", "e.asleep = true"},
		},
		tests: []string{"TestAReleaseOfAnEntryThatIsAloneIsAGrant", "TestAnEntryAgainBehindUnmarkedOnesLooks"},
	},
	{
		takesOut: "a release writes no key that stands by an earlier try",
		edits: []edit{
			{"queue.(*departure).enters", "created(a.key, 0)", "created(a.key+\"-\", 0)"},
		},
		tests: []string{"TestAReleaseDoesNotEnterAgainWhereItsKeyStands"},
	},
	{
		takesOut: "a release that cannot enter again still tells the next entry",
		edits: []edit{
			{"queue.(*line).leaveMarked", "e.again = nil // its key may stand", "_ = n"},
		},
		tests: []string{"TestAReleaseDoesNotEnterAgainWhereItsKeyStands"},
	},
	{
		takesOut: "a release that tells its own session does not enter again",
		edits: []edit{
			{"queue.(*line).departure", "e.again != nil && e.again.inbox != told", "e.again != nil"},
		},
		tests: []string{"TestAReleaseThatTellsItsOwnSessionDoesNotEnterAgain"},
	},
	{
		takesOut: "a release enters again only if its inbox is watched",
		edits: []edit{
			{"queue.(*Queue).hears", "q.barred || q.inbox == nil", "q.barred"},
		},
		tests: []string{"TestAReleaseDoesNotEnterAgainWithoutAnInbox"},
	},
	{
		takesOut: "a worker deletes the key that a release without an answer may have left",
		edits: []edit{
			{"local.(*Deletion).LeftAgain", "t.tried, next.Finish = err != nil, t", "t.tried = err != nil"},
		},
		tests: []string{"TestWhateverHappensToAReleaseThatEntersAgain"},
	},
	{
		takesOut: "a worker goes on with an entry that a release without an answer may have left",
		edits: []edit{
			{"local.(*Deletion).LeftAgain", "a.Entry == nil && err == nil", "a.Entry == nil"},
		},
		tests: []string{"TestWhateverHappensToAReleaseThatEntersAgain"},
	},
	{
		takesOut: "the last holder drives the local queue while it enters again",
		edits: []edit{
			{"local.(*Deletion).Again", "l.drive(driverCaller)", "_ = slot"},
		},
		tests: []string{"TestNoWorkerActsWhileTheLastHolderEnters"},
	},
	{
		takesOut: "the last holder tells what came of its request even if the client's code panics",
		edits: []edit{
			{"lockmgr.(*Manager).leaveAndEnter", "defer func() { settled = d.LeftAgain(a, deleted, err) }()", ""},
			{"lockmgr.(*Manager).leaveAndEnter", "return nil", "return d.LeftAgain(a, deleted, err)"},
		},
		tests: []string{"TestWhateverHappensToAReleaseThatEntersAgain"},
	},
	{
		takesOut: "a release that was lost, and is repeated, leaves no doubt about its entry",
		edits: []edit{
			{"lockmgr.(*Manager).work", "begun.Attempt.Over = confirmed", "_ = confirmed"},
		},
		tests: []string{"TestALostReleaseLeavesNoDoubtAboutItsEntry", "TestOrphanDoesNotWaitForTheEntryOfALostRelease"},
	},
	{
		takesOut: "the length of a queue is read again after some entries",
		edits: []edit{
			{"queue.(*line).leaveMarked", "|| e.again != nil && e.saw().guesses >= mostGuesses", ""},
		},
		tests: []string{"TestAnEntryAgainKnowsThatTheQueueHasGrown"},
	},
	{
		takesOut: "a release does not enter again while a key of the session may still come",
		edits: []edit{
			{"lockmgr.(*Manager).mayEnterAgain", "!m.sweeper.Uncertain(d.Lease, name, wire.MarkedSlot(1))", "true"},
		},
		tests: []string{"TestAReleaseDoesNotEnterAgainInDoubt"},
	},
}
