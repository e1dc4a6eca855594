package main

// localMutations are about the local queue of a session, and what an unanswered request may leave.
var localMutations = []mutation{
	{
		takesOut: "a caller in a long queue waits by itself",
		edits: []edit{
			{"lockmgr.line.waitsAlone", "a.Entry != nil && !a.Of.Try", "false && a.Entry != nil"},
		},
		tests: []string{"TestAWaitInALongQueueHasNoGoroutineButItsCallers"},
	},
	{
		takesOut: "a wait by a caller ends with this caller",
		edits: []edit{
			{"lockmgr.line.driveUntil", "defer context.AfterFunc(ctx, stop)()", "_ = ctx"},
		},
		tests: []string{"TestACallerInALongQueueGivesUp", "TestACallerDoesNotWaitForItsInbox"},
	},
	{
		takesOut: "a wait by a caller ends when no call is admitted any more",
		edits: []edit{
			{"lockmgr.line.driveUntil", "until(&a.Wanted, a.Lease)", "context.WithCancel(a.Lease.Context())"},
		},
		tests: []string{"TestAWaitInALongQueueEnds"},
	},
	{
		takesOut: "a candidate in a long queue waits by itself",
		edits: []edit{
			{"lockmgr.line.waitsAlone", "!a.Of.Try &&", "!a.Of.Try && !a.Of.Candidate &&"},
		},
		tests: []string{"TestACandidateInALongQueueHasNoGoroutineButItsCallers"},
	},
	{
		takesOut: "a candidate that has waited by itself does not wait again",
		edits: []edit{
			{"lockmgr.line.enter", "rev == 0 {", "rev >= 0 {"},
		},
		tests: []string{"TestACandidateInALongQueueHasNoGoroutineButItsCallers"},
	},
	{
		takesOut: "a candidate that has waited by itself does not lead before another one that is named",
		edits: []edit{
			{"lockmgr.line.enterAlone", "err == nil && !a.Of.Candidate && l.GrantAlone", "err == nil && l.GrantAlone"},
		},
		tests: []string{"TestACandidateInALongQueueStepsBehind"},
	},
	{
		takesOut: "a caller waits for its message by itself",
		edits: []edit{
			{"queue.(*Queue).Follows", "(e.marked || !q.inCache(e))", "!e.marked && !q.inCache(e)"},
		},
		tests: []string{"TestAMarkedWaitHasNoGoroutineButItsCallers"},
	},
	{
		takesOut: "a caller that enters by itself has a marked entry in a long queue",
		edits: []edit{
			{"lockmgr.line.enterAlone", "if l.Marks(&a.Of.Call) &&", "if false &&"},
		},
		tests: []string{"TestAMarkedWaitHasNoGoroutineButItsCallers"},
	},
	{
		takesOut: "a local queue with an inbox, or with the watch of one entry, rests without a goroutine",
		edits: []edit{
			{"local.(*Line).listens", "l.Single.Viewed()", "true"},
		},
		tests: []string{"TestAMarkedWaitHasNoGoroutineButItsCallers"},
	},
	{
		takesOut: "a marked entry assumes nothing of its queue",
		edits: []edit{
			{"queue.(*Queue).EnterOnce", "w.Slot.Marked() ||", ""},
		},
		tests: []string{"TestAMarkedEntryIsNotOptimistic"},
	},
	{
		takesOut: "a caller whose inbox is refused enters unmarked",
		edits: []edit{
			{"lockmgr.line.enterAlone", "case errors.Is(err, queue.ErrUnmarked):", "case false && errors.Is(err, queue.ErrUnmarked):"},
		},
		tests: []string{"TestACallerWhoseInboxIsRefusedEntersUnmarked"},
	},
	{
		takesOut: "a caller that leaves while its inbox is opened says nothing of the inbox",
		edits: []edit{
			{"queue.(*Queue).Listens", "ctx.Err() != nil", "false"},
		},
		tests: []string{"TestAnInboxThatWasGivenUpIsTriedAgain"},
	},
	{
		takesOut: "a caller that leaves while its inbox is opened enters no more",
		edits: []edit{
			{"lockmgr.line.mark", "goesOn = wait.Err() == nil", "goesOn = true"},
		},
		tests: []string{"TestACallerDoesNotWaitForItsInbox"},
	},
	{
		takesOut: "a caller waits for its inbox as long as it waits for its lock",
		edits: []edit{
			{"lockmgr.line.mark", "l.takeMarked(wait, a.Lease)", "l.takeMarked(a.Lease.Context(), a.Lease)"},
		},
		tests: []string{"TestACallerDoesNotWaitForItsInbox"},
	},
	{
		takesOut: "the error of a caller that waits for its message names the holder",
		edits: []edit{
			{"lockmgr.line.waitAlone", "defer l.foresee(ctx)()", ""},
		},
		tests: []string{"TestACallerOfAMarkedWaitGivesUp"},
	},
	{
		takesOut: "the read of the holder before a deadline runs no code of the client",
		edits: []edit{
			{"lockmgr.line.foresee", "context.WithTimeout(l.cfg.Life, foresight)", "context.WithTimeout(ctx, foresight)"},
		},
		tests: []string{"TestAContextThatPanicsLeavesNoDriver"},
	},
	{
		takesOut: "the inbox of an idle name is deleted",
		edits: []edit{
			{"local.(*Queue).rested", "case m.gate.state != closed && l.posts():", "case false:"},
		},
		tests: []string{"TestTheInboxesOfManyIdleNamesAreDeleted"},
	},
	{
		takesOut: "the inbox of a name that may not rest is deleted at once",
		edits: []edit{
			{"local.(*Queue).rest", "case l.posts():", "case false:"},
		},
		tests: []string{"TestTheInboxesOfManyIdleNamesAreDeleted"},
	},
	{
		takesOut: "an idle name that is forgotten has no watch",
		edits: []edit{
			{"local.(*Queue).end", "l.close()", ""},
		},
		tests: []string{"TestAWaitInALongQueueLeavesNoWatch"},
	},
	{
		takesOut: "a wait that is begun again after an error reads first",
		edits: []edit{
			{"queue.(*Queue).awaitPredecessor", "err != nil && ctx.Err() == nil", "false"},
		},
		tests: []string{"TestAWaiterInALongQueueHearsOfARefusalSoon"},
	},
	{
		takesOut: "a context of the client that panics leaves a local queue that can end",
		edits: []edit{
			{"lockmgr.line.drive", "if !returned {", "if false && !returned {"},
		},
		tests: []string{"TestAContextThatPanicsLeavesNoDriver"},
	},
	{
		takesOut: "a hold that has reached its limit is released without its caller (P14)",
		edits: []edit{
			{"lockmgr.(*Hold).overdue", "case h.giveBack():", "case false:"},
		},
		tests: []string{"TestAHoldThatReachesItsLimitIsReleased"},
	},
	{
		takesOut: "a hold that has reached its limit is released by its caller",
		edits: []edit{
			{"local.(*Table).Release", "&& !h.givenBack()", ""},
		},
		tests: []string{"TestAHoldThatIsReleasedAfterItsLimitIsReleasedAtOnce"},
	},
	{
		takesOut: "a hold that has reached its limit keeps others out for the margin",
		edits: []edit{
			{"local.(*Hold).EndOverdue", "l.timer.Reset(h.owned.lease.Margin())", "l.timer.Reset(0)"},
		},
		tests: []string{"TestAHoldThatReachesItsLimitIsReleased"},
	},
	{
		takesOut: "the timer of a limit is stopped when the hold is lost",
		edits: []edit{
			{"local.(*Hold).limited", "l.timer.Stop()", ""},
		},
		tests: []string{"TestTheTimerOfALimitIsStopped"},
	},
	{
		takesOut: "a hold that has reached its limit is given back once",
		edits: []edit{
			{"local.(*Hold).givenBack", "h.limit.over = false", ""},
		},
		tests: []string{"TestAReaderThatReachesItsLimitIsNotWaitedFor"},
	},
	{
		takesOut: "a hold that has reached its limit is not handed over in memory (fencing)",
		edits: []edit{
			{"local.(*Ownership).release", "&& !h.Overdue()", ""},
		},
		tests: []string{"TestAfterItsLimitAHoldIsNotHandedOverInMemory"},
	},
	{
		takesOut: "a hold within another one has its limit",
		edits: []edit{
			{"local.(*Hold).Limit", "of != nil && (l == nil || of.until < l.until)", "false && of != nil"},
		},
		tests: []string{"TestAHoldWithinAnotherOneHasItsLimitToo"},
	},
	{
		takesOut: "a conversion does not begin a limit again",
		edits: []edit{
			{"local.(*Hold).GoOn", "until: l.until", "until: h.owned.clock() + l.most"},
		},
		tests: []string{"TestConversionsDoNotBeginALimitAgain"},
	},
	{
		takesOut: "a release after the limit says so",
		edits: []edit{
			{"lockmgr.(*Hold).Release", "case !h.Overdue(), errors.Is(err, lockerr.ErrHeldTooLong):", "case true:"},
		},
		tests: []string{"TestAHoldThatIsReleasedAfterItsLimitIsReleasedAtOnce", "TestDoSaysThatItsFunctionTookTooLong"},
	},
	{
		takesOut: "a downgrade ends with an ownership that is lost meanwhile",
		edits: []edit{
			{"local.(*Ownership).settleAs", "t.detachNow()", ""},
		},
		tests: []string{"TestADowngradeDuringALossEndsWithTheLease"},
	},
	{
		takesOut: "an evicted hold is not counted again when its lease ends",
		edits: []edit{
			{"local.(*Ownership).Lose", "t.noted = true", ""},
		},
		tests: []string{"TestAnEvictedHoldIsCountedAsLostOnce"},
	},
	{
		takesOut: "a sweep ends with its lease",
		edits: []edit{
			{"sweeper.(*leased).sweepBatch", "err := l.cfg.Sweep(l.lease.Context(), keys)", "err := l.cfg.Sweep(l.cfg.Life, keys)"},
		},
		tests: []string{"TestACallUnderTheNextLeaseDoesNotWaitForASweepUnderTheLast"},
	},
	{
		takesOut: "the other keys of a transaction are swept once one was found",
		edits: []edit{
			{"sweeper.(*leased).wasSwept", "l.hasten(d)", ""},
		},
		tests: []string{"TestTheOtherKeysOfATransactionAreSweptOnceOneWasFound"},
	},
	{
		takesOut: "a call whose place is gone waits for the answer that tells why",
		edits: []edit{
			{"lockmgr.line.fail", "whyPlaceGone(wanted, ls, e)", "whyGone(ls, e)"},
		},
		tests: []string{"TestALeaseRevokedDuringAWaitIsToldThoughEtcdAnswersSlowly"},
	},
	{
		takesOut: "a key is not kept after a request to release it",
		edits: []edit{
			{"lockmgr.Asked", "h.Contended()", ""},
		},
		tests: []string{"TestWhoWasAskedDoesNotKeepTheKey", "TestWhoWasAskedInANestedHoldDoesNotKeepTheKey"},
	},
	{
		takesOut: "an illegal phase, driver or ownership ends the session",
		edits: []edit{
			{"local.(*Ownership).become", "m.cfg.Fail(err)", ""},
		},
		tests: []string{"TestAnIllegalChangeOfAdmissionPhaseDriverOrOwnershipEndsTheSession"},
	},
	{
		takesOut: "the idle timer of a local queue that was removed forgets no other one",
		edits: []edit{
			{"local.(*Queue).rested", "case l.driver != driverNone || !m.locals.has(l):", "case l.driver != driverNone:"},
		},
		tests: []string{"TestAThousandNamesInOneManager"},
	},
	{
		takesOut: "an enqueue of unknown outcome is taken back (A4, B2)",
		edits: []edit{
			{"lockmgr.line.write", "case unsure:\nl.suspect(", "case false:\nl.suspect("},
		},
		tests: []string{"TestARequestThatArrivesAfterItWasLookedForLeavesNothing"},
	},
	{
		takesOut: "a first request that was cut off with its caller is taken back (A4)",
		edits: []edit{
			{"lockmgr.line.resume", "if a.Unsure {\nl.suspect(", "if false {\nl.suspect("},
		},
		tests: []string{"TestWhoGivesUpInHisFirstRequestLeavesNothing"},
	},
	{
		takesOut: "a first request that arrives late does not stand for long",
		edits: []edit{
			{"sweeper.(*Sweeper).suspect", "d.at, d.watched, d.pause = time.Now(), false, First", "d.at, d.watched, d.pause = time.Now(), false, LateEffect"},
		},
		tests: []string{"TestWhoGivesUpInHisFirstRequestLeavesNothing"},
	},
	{
		takesOut: "a caller with little time left does not cut its request off",
		edits: []edit{
			{"lockmgr.hurries", "return ok && time.Until(deadline) <= etcdkv.FirstBound", "return false && ok && time.Until(deadline) <= etcdkv.FirstBound"},
		},
		tests: []string{"TestWhoseTimeIsShortCutsNoRequestOff"},
	},
	{
		takesOut: "a first attempt ends when it serves no waiter any more",
		edits: []edit{
			{"local.(*Queue).attempts", "l.pending = w, &a.pending", "l.pending = w, &pending{Wanted: *lazyctx.New(l.table.cfg.Life), served: w}"},
		},
		tests: []string{"TestWhoJoinedAnAttemptIsNotHeldUpByWhatItWanted", "TestATryRightAfterACancelledAttemptIsNotRefusedForIt"},
	},
	{
		takesOut: "the entry of a caller that has given up names the holds of the next one",
		edits: []edit{
			{"local.(*Queue).SpeakOf", "if next := l.front(); next != nil && next != w &&", "if next := l.front(); next == nil && next != w &&"},
		},
		tests: []string{"TestWhoTakesAnAttemptOverSaysWhatHeHolds"},
	},
	{
		takesOut: "a caller whose goroutine ends in its own request leaves the local queue",
		edits: []edit{
			{"lockmgr.line.drive", "if !returned {", "if !returned && false {"},
		},
		tests: []string{"TestACallerWhoseGoroutineEndsInHisRequestLeavesTheLine"},
	},
	{
		takesOut: "a key that was found proves the outcome of a request only if no other can have written it",
		edits: []edit{
			{"sweeper.(*Sweeper).suspect", "d.requests = min(d.requests+requests, Many)", "d.requests = requests"},
		},
		tests: []string{"TestAKeyOfSomebodyElseLeavesTheDoubt"},
	},
	{
		takesOut: "a waiter does not line up behind a key of its own session that is being swept (C2)",
		edits: []edit{
			{"lockmgr.line.takeSlot", "case swept == nil || wanted", "case true || wanted"},
		},
		tests: []string{"TestALockIsHeldWhileAnEarlierRequestsKeyIsSwept"},
	},
	{
		takesOut: "the key of the former process is taken over by two requests",
		edits: []edit{
			{"local.(*Queue).attempt", "|| cfg.MayStand(w.under.ID(), l.Names()) ||", "||"},
		},
		tests: []string{"TestAProcessGetsWhatItAsksForWhateverTheFormerOneHad"},
	},
	{
		takesOut: "uncertain keys are swept together (R10)",
		edits: []edit{
			{"queue.MostSwept", "MostSwept = 40", "MostSwept = 1"},
		},
		tests: []string{"TestManyCancelledCallsAreLookedAfterByOneGoroutineWithFewRequests"},
	},
	{
		takesOut: "a key of the former process that fits is adopted in whatever slot (R1)",
		edits: []edit{
			{"lockmgr.line.newAttempt", "if l.mayInherit(ls) {", "if false {"},
		},
		tests: []string{"TestALockAllInOtherSlotsIsTakenOverAsAWhole"},
	},
	{
		takesOut: "a key of the former process that does not fit is not waited for (R1)",
		edits: []edit{
			{"lockmgr.line.clearWay", "if !l.mayInherit(a.Lease) {", "if true {"},
		},
		tests: []string{"TestALateRequestOfTheFormerProcessIsNotWaitedFor"},
	},
	{
		takesOut: "a session never gives up a key that it uses (R2)",
		edits: []edit{
			{"adoption.(*Former).unused", "Busy(k.Name, k.Slot)", "Busy(k.Name, wire.Slot{N: k.Slot.N, Priority: k.Slot.Priority})"},
			{"adoption.(*Former).DeleteAdopted", "Hold(k.Name, k.Slot)", "Hold(k.Name, wire.Slot{N: k.Slot.N, Priority: k.Slot.Priority})"},
		},
		tests: []string{"TestASessionNeverGivesUpAKeyThatItUses"},
	},
	{
		takesOut: "a request that may arrive much later is looked for once more (A4)",
		edits: []edit{
			{"sweeper.(*leased).wasSwept", "for _, late := range LateSweeps {", "for _, late := range LateSweeps[:0] {"},
		},
		tests: []string{"TestARequestThatArrivesAfterItWasLookedForLeavesNothing"},
	},
	{
		takesOut: "an upgrade that Orphan ends leaves no mark",
		edits: []edit{
			{"local.(*Table).Pending", "t.unmark(ErrDrained) || !t.open() {\nn++", "!t.open() {\nn++"},
		},
		tests: []string{"TestWhatEndsAnUpgrade"},
	},
	{
		takesOut: "a waiter that gives up does not cost the next one its place (A3)",
		edits: []edit{
			{"local.(*Queue).GiveUp", "case next == nil || l.pending != nil && l.pending.served != nil && !next.inherits(l.pending.served.Request):", "case true:"},
		},
		tests: []string{"TestACallerWhoGivesUpDoesNotCostTheNextOneThePlace"},
	},
	{
		takesOut: "a large request that was given up blocks no other (A3)",
		edits: []edit{
			{"local.(*Queue).GiveUp", "case next == nil || l.pending != nil && l.pending.served != nil && !next.inherits(l.pending.served.Request):", "case next == nil:"},
		},
		tests: []string{"TestALargeRequestThatIsGivenUpLetsSmallOnesIn", "TestReadersBehindAWriterWhoGivesUpGoIn"},
	},
	{
		takesOut: "a try is refused because of waiters, not because of other tries (A13)",
		edits: []edit{
			{"local.(*Queue).refuses", "if w.Rule == nil || l.held() {", "if true {"},
		},
		tests: []string{"TestReadersWhoTryAtOnceAllGetIn", "TestThoseWhoTryAtOnceAllGetPermits"},
	},
	{
		takesOut: "a try does not wait (A13)",
		edits: []edit{
			{"local.(*Queue).Block", "if w.Try {", "if w.Try && false {"},
		},
		tests: []string{"TestReadersWhoTryAtOnceAllGetIn"},
	},
	{
		takesOut: "a kept key is given up for a reader of its session",
		edits: []edit{
			{"local.(*Table).atOnce", "l.owned.giveUpKept() // a kept key is for an exclusive request", "_ = l"},
		},
		tests: []string{"TestAReaderDoesNotWaitForAKeyThatItsSessionKeeps"},
	},
	{
		takesOut: "an Unlock without a network is done in the background (A10)",
		edits: []edit{
			{"lockmgr.(*Manager).finish", "refused, err = l.leave(d.Lease, d.Entry, d.Tried)", ""},
		},
		tests: []string{"TestAnUnlockWithoutANetworkEndsAtOnceAndIsDoneLater"},
	},
	{
		takesOut: "a lease that ends after the work is no loss for Do",
		edits: []edit{
			{"etcdlock.hold.do", "&& !errors.Is(rerr, ErrUnconfirmed)", ""},
		},
		tests: []string{"TestDoAndRunReturnNoErrorForAnUnconfirmedRelease"},
	},
	{
		takesOut: "a release that hears of a revocation is a loss",
		edits: []edit{
			{"lockerr.NotConfirmed", "errors.Is(cause, gone)", "errors.Is(cause, gone) && false"},
		},
		tests: []string{"TestAReleaseThatHearsOfARevocationIsALoss"},
	},
	{
		takesOut: "a time slice ends",
		edits: []edit{
			{"local.(*Ownership).release", "m.cfg.Clock()-t.began() < h.terms.Slice", "h.terms.Slice > 0"},
		},
		tests: []string{"TestASliceEnds", "TestAStrangerWaitsForOneSliceAndOneCriticalSection"},
	},
	{
		takesOut: "a kept key is given up when another session lines up",
		edits: []edit{
			{"local.(*Ownership).Contended", "t.contended = true\nt.giveUpKept()", "t.contended = true"},
		},
		tests: []string{"TestAKeptKeyIsSeenByOthersAndGivenUpForWhoLinesUp"},
	},
	{
		takesOut: "a session that keeps a key watches for other sessions from then on",
		edits: []edit{
			{"local.(*Ownership).keep", "t.listen() // for", "// for"},
		},
		tests: []string{"TestAKeptKeyIsGivenUpWheneverTheStrangerCame"},
	},
	{
		takesOut: "a young hold is looked after when it is no longer young",
		edits: []edit{
			{"local.(*Ownership).unattended", "t.young = t.local.table.young.Add(t)", ""},
		},
		tests: []string{"TestALockThatNobodyElseWantsNeedsNoOtherGoroutine"},
	},
	{
		takesOut: "idle names are not in use",
		edits: []edit{
			{"local.(*Table).checkNesting", "|| !l.counted {", "|| true {"},
		},
		tests: []string{"TestNamesAtRestMayNest"},
	},
	{
		takesOut: "idle names are forgotten",
		edits: []edit{
			{"local.(*Queue).rested", "case m.now()-l.since < queue.Resting:", "case m.now()-l.since < 100*queue.Resting:"},
		},
		tests: []string{"TestFewLinesRest"},
	},
	{
		takesOut: "an Unlock whose caller gives up returns at once",
		edits: []edit{
			{"lockmgr.(*Manager).leaveOnce", "RequestContext(d.Lease.Context(), ctx)", "RequestContext(d.Lease.Context(), context.WithoutCancel(ctx))"},
		},
		tests: []string{"TestWhoGivesUpInUnlockReturnsAtOnce"},
	},
	{
		takesOut: "the first request of a caller ends with the lease",
		edits: []edit{
			{"lockmgr.line.request", "RequestContext(a.Lease.Context(), ctx)", "RequestContext(l.cfg.Life, ctx)"},
		},
		tests: []string{"TestWithTheLeaseAFirstRequestEnds"},
	},
	{
		takesOut: "of the waiters in a cycle only the youngest is refused",
		edits: []edit{
			{"waitgraph.(*Graph).CycleOfVictim", "o.compareAge(n) < 0", "o != n"},
		},
		tests: []string{"TestTwoThatHoldWhatTheOtherWaitsFor", "TestExactlyOneOfThoseInACycleIsRefused"},
	},
	{
		takesOut: "of the waiters in a cycle that wrote at one revision one is refused",
		edits: []edit{
			{"waitgraph.(*node).compareAge", "cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Key, b.Key))", "cmp.Compare(a.Order, b.Order)"},
		},
		tests: []string{"TestAtOneOrderTheKeysDecideWhichIsTheVictim", "TestOfTwoThatLinedUpAtOneRevisionOneIsRefused"},
	},
	{
		takesOut: "the owner of a held key is part of a cycle",
		edits: []edit{
			{"waitgraph.(*Graph).linksOf", "for _, holder := range g.holders[key] {", "for _, holder := range g.holders[key][:0] {"},
		},
		tests: []string{"TestCyclesAreThoseOfASearchOfAllPaths", "TestADeadlockOfTwoIsFoundAndTheYoungerOneIsRefused"},
	},
	{
		takesOut: "the search for cycles leaves out only what cannot be in one",
		edits: []edit{
			{"waitgraph.(*Graph).stuck", "out[n] > 0 && in[n] > 0", "out[n] > 1 && in[n] > 0"},
		},
		tests: []string{"TestCyclesAreThoseOfASearchOfAllPaths"},
	},
}
