package main

// electionMutations are about elections, observers, services and crash detection.
var electionMutations = []mutation{
	{
		takesOut: "a vacancy is an observation (B8)",
		edits: []edit{
			{"queue.(*heads).report", "h.known, h.last = true, first", "h.known, h.last = true, first\nif first == nil {\nreturn true, nil\n}"},
		},
		tests: []string{"TestAnObserverSeesThePresentLeaderFirst"},
	},
	{
		takesOut: "Run resigns only when the work has returned (B13)",
		edits: []edit{
			{"leaderloop.(*loop).do", "e.work = l.cfg.Work(work, term)", "context.AfterFunc(work, func() { term.Abandon() })\ne.work = l.cfg.Work(work, term)"},
		},
		tests: []string{"TestRunResignsOnlyAfterTheWorkHasReturned", "TestWhateverStopsTheWorkTheTermIsGivenBackAfterwards"},
	},
	{
		takesOut: "work that panics gives its term back (B13)",
		edits: []edit{
			{"leaderloop.(*loop).lead", "term.Abandon()", ""},
		},
		tests: []string{"TestRunResignsWhenTheWorkPanicsAndLetsThePanicThrough", "TestAPanicAndAGoexitOfTheWorkAreLetThrough"},
	},
	{
		takesOut: "the result of work that has returned by itself is that of Run",
		edits: []edit{
			{"leaderloop.(*loop).judge", "case e.stood && e.told == nil:", "case ended == nil && e.stood && e.told == nil:"},
		},
		tests: []string{"TestRunEndsWithTheResultOfItsWorkThoughItIsToldToEndWhileItResigns", "TestTheEndOfWorkThatWasNotToldToStop"},
	},
	{
		takesOut: "processes that lose their leases together pause for different times",
		edits: []edit{
			{"etcdlock.(*runCandidate).Lease", "ID: int64(l.ID())", "ID: int64(c.election.session.Lease())"},
		},
		tests: []string{"TestProcessesThatLoseTheirTermsTogetherPauseForDifferentTimes"},
	},
	{
		takesOut: "the lease of work that does not stop is not renewed (E7)",
		edits: []edit{
			{"leaderloop.(*watchdog).awaitReturn", `w.stopRenewing(fmt.Errorf("the function of Run`, `_ = (fmt.Errorf("the function of Run`},
		},
		tests: []string{"TestTheTermOfWorkThatDoesNotStopIsLeftToItsLease", "TestTheTermOfStuckWorkIsLeftToItsLease"},
	},
	{
		takesOut: "the lease of work that does not stop is ended only when the work has returned (B13)",
		edits: []edit{
			{"leaderloop.(*watchdog).stopRenewing", "w.unrenewed = true", "w.unrenewed = true\nw.term.EndLease()"},
		},
		tests: []string{"TestTheTermOfWorkThatDoesNotStopIsLeftToItsLease", "TestTheTermOfStuckWorkIsLeftToItsLease"},
	},
	{
		takesOut: "the lease of work that reports no progress is not renewed (E7)",
		edits: []edit{
			{"leaderloop.(*watchdog).awaitStop", "w.stopRenewing(why)\nw.stop", "w.stop"},
		},
		tests: []string{"TestALeaderThatReportsNoProgressMakesRoom", "TestWhateverStopsTheWorkTheTermIsGivenBackAfterwards"},
	},
	{
		takesOut: "a process whose work ignores a loss ends before another leads",
		edits: []edit{
			{"leaderloop.(*watchdog).inTime", "left = min(left, term.through(eighths))", "_ = term.through(eighths)"},
		},
		tests: []string{
			"TestAProcessWhoseWorkIgnoresTheLossOfItsTermEndsBeforeAnybodyElseLeads", "TestAProcessWhoseTermIsLostWhileItsWorkStopsEndsBeforeAnybodyElseLeads",
			"TestTheSharesOfTheMargin",
		},
	},
	{
		takesOut: "a process whose callback hangs exits before the last eighth of the margin",
		edits: []edit{
			{"leaderloop.stuckEighths", "stuckEighths = 7", "stuckEighths = 8"},
		},
		tests: []string{"TestWorkIsStuckWhenItsShareOfTheMarginIsOver", "TestTheSharesOfTheMargin"},
	},
	{
		takesOut: "a machine that has slept sees at once that its work is late",
		edits: []edit{
			{"leaderloop.(*watchdog).inTime", "timer.Reset(min(left, interval))", "_ = interval\ntimer.Reset(left)"},
		},
		tests: []string{"TestStuckWorkIsSeenSoonAfterTheMachineHasSlept"},
	},
	{
		takesOut: "work that steps down raises no alarm (E14)",
		edits: []edit{
			{"leaderloop.(*loop).stepDown", "case term.Err() == nil && work.Err() == nil:", "case work.Err() == nil:"},
		},
		tests: []string{"TestWorkThatStepsDownRaisesNoFalseAlarm"},
	},
	{
		takesOut: "a callback that ends its goroutine does not end the others (E12)",
		edits: []edit{
			{"leaderloop.(*callbackQueue).run", "if calling {", "if calling && false {"},
		},
		tests: []string{"TestACallbackThatCallsGoexitHasReturned"},
	},
	{
		takesOut: "a role is entered by a legal edge only",
		edits: []edit{
			{"leaderloop.(*state).enter", "; err != nil {", "; err != nil && false {"},
		},
		tests: []string{"TestOnlyTheEdgesOfTheTableAreLegal", "TestAnIllegalEdgeEndsRun"},
	},
	{
		takesOut: "a hold that is forgotten before its lease's end is told is named all the same (L2)",
		edits: []edit{
			{"local.(*Table).noteLoss", "m.losses.add(t.loss())", ""},
		},
		tests: []string{"TestALostLeaseIsLoggedWithWhatWasHeldUnderIt", "TestOfManyLostHoldsAFewAreNamed"},
	},
	{
		takesOut: "a hold is not handed over from under a nested hold (L8)",
		edits: []edit{
			{"lockmgr.(*Hold).ReleaseTo", "if successor != nil && !h.manager.CloseFor(&h.Hold) {", "if false {"},
		},
		tests: []string{"TestATransferUnderANestedHoldIsRefused"},
	},
	{
		takesOut: "a candidate that flaps needs more passes",
		edits: []edit{
			{"leaderloop.(*healthState).add", "s.requiredPasses = min(2*s.requiredPasses, maxPassFactor*s.failures)", "s.requiredPasses = s.failures"},
		},
		tests: []string{"TestAProcessThatFlapsNeedsMorePassesUntilItIsTrustedAgain", "TestHealthFollowsFromStreaksOfResults"},
	},
	{
		takesOut: "an observer is not told of a term that was over when it joined (A21)",
		edits: []edit{
			{"queue.Head.News", "&& !h.gone(told)", ""},
		},
		tests: []string{"TestAnObserverIsNotToldOfATermThatWasOverWhenItJoined"},
	},
	{
		takesOut: "observers share a watch",
		edits: []edit{
			{"observe.(*Followers).join", "f := fs.followers[name]", "var f *follower"},
		},
		tests: []string{"TestManyObserversOfOneElectionShareOneWatch"},
	},
	{
		takesOut: "what is kept for observers is bounded",
		edits: []edit{
			{"observe.(*history).add", "for len(h.changes) > 1 && (", "for false && ("},
		},
		tests: []string{"TestWhatAFollowerKeepsIsBounded"},
	},
	{
		takesOut: "a leader that may have given up during an outage is marked",
		edits: []edit{
			{"observe.(*outages).mark", "head.Unconfirmed = outage.Until", "head.Unconfirmed = false && outage.Until"},
		},
		tests: []string{"TestALeaderThatMayHaveGivenUpDuringAnOutageIsMarked"},
	},
	{
		takesOut: "an observer that joins others reads who leads now (B9)",
		edits: []edit{
			{"observe.(*Followers).Observe", "if o.late {", "if o.late && false {"},
		},
		tests: []string{"TestAnObserverWhoJoinsOthersIsToldWhatIsSoNow"},
	},
	{
		takesOut: "a call that waits for etcd ends with its session",
		edits: []edit{
			{"session.(*Session).Within", "cancel(s.Err())", "_ = s.Err()"},
		},
		tests: []string{"TestACallThatWaitsForEtcdEndsWithItsSession"},
	},
	{
		takesOut: "an answer of before another outage is dropped",
		edits: []edit{
			{"observe.(*outages).ttl", "if o.since.Equal(since) {", "if true || o.since.Equal(since) {"},
		},
		tests: []string{"TestAnAnswerThatIsOlderThanAnOutageIsDropped"},
	},
	{
		takesOut: "only a refusal tells that a process is dead",
		edits: []edit{
			{"liveness.(*Detector).probe", "!errors.Is(err, syscall.ECONNREFUSED)", "errors.Is(err, syscall.EPERM)"},
		},
		tests: []string{"TestALeaderThatMayLiveIsLeftToItsTTL"},
	},
	{
		takesOut: "a candidate backs off however short its connections to the leader are",
		edits: []edit{
			{"liveness.(*Detector).probeLoop", "if lived && time.Since(began) >= steady {", "if lived && (true || time.Since(began) >= steady) {"},
		},
		tests: []string{"TestACandidateBacksOffHoweverShortItsConnectionsAre", "TestACandidateTooManyBacksOff"},
	},
	{
		takesOut: "any candidate revokes a lease that is marked as that of a dead process",
		edits: []edit{
			{"liveness.(*Detector).probeLoop", "d.revoke(election, l, record)\nreturn", "return"},
		},
		tests: []string{"TestALostAnswerDoesNotKeepADeadLeader", "TestAnyProcessRevokesAMarkedLease"},
	},
	{
		takesOut: "a process is told that it was taken for dead (E15)",
		edits: []edit{
			{"liveness.(*Record).LeaseLost", "since != 0 && errors", "since < 0 && errors"},
		},
		tests: []string{"TestTheEndOfALeaseIsLoggedAsWhatItWas", "TestTheRecordOfAMarkedLeaseIsLookedFor"},
	},
	{
		takesOut: "the record of a marked lease is looked for in the past",
		edits: []edit{
			{"liveness.(*Record).logIfMarked", "written+1", "0"},
		},
		tests: []string{"TestTheRecordOfAMarkedLeaseIsLookedFor"},
	},
	{
		takesOut: "the search for a marked record is tried again",
		edits: []edit{
			{"queue.(*Queue).Changes", "f.watch == nil && f.resume == 0", "f.watch == nil"},
		},
		tests: []string{"TestTheRecordOfAMarkedLeaseIsLookedFor"},
	},
	{
		takesOut: "the search for a marked record ends when the past is compacted",
		edits: []edit{
			{"queue.(*follower).ended", "!f.Cancelled()", "true"},
		},
		tests: []string{"TestTheRecordOfAMarkedLeaseIsLookedFor"},
	},
	{
		takesOut: "the search for a marked record ends with its deletion",
		edits: []edit{
			{"liveness.(*Record).logIfMarked", "return false // by an administrator", "return true"},
		},
		tests: []string{"TestTheRecordOfAMarkedLeaseIsLookedFor"},
	},
	{
		takesOut: "a lease is either taken over or revoked as that of a dead process",
		edits: []edit{
			{"liveness.(*Record).overwrite", "case found.Dead:", "case false:"},
		},
		tests: []string{"TestALeaseIsEitherTakenOverOrRevokedAsThatOfADeadProcess"},
	},
	{
		takesOut: "a session that is left to a successor is no dead process",
		edits: []edit{
			{"session.(*Session).Orphan", "err := s.liveness.Withdraw(ctx); err != nil", "err := error(nil); err != nil"},
		},
		tests: []string{"TestALeaseThatIsLeftToASuccessorIsNotTakenForThatOfADeadProcess"},
	},
	{
		takesOut: "a Run whose client is closed keeps its process from being taken for dead while its work stops",
		edits: []edit{
			{"session.(*Session).finish", "if !how.keeps {", "if true {"},
		},
		tests: []string{"TestAClientThatIsClosedDoesNotMakeItsProcessADeadOne"},
	},
	{
		takesOut: "a successor publishes its address again, also in the place of the former process",
		edits: []edit{
			{"liveness.(*Record).Replace", "r.own, listens)", "r.own, false)"},
		},
		tests: []string{"TestALeaseIsEitherTakenOverOrRevokedAsThatOfADeadProcess"},
	},
	{
		takesOut: "a withdrawal of the liveness record refuses what was sent before it",
		edits: []edit{
			{"liveness.(*Record).Withdraw", "wire.Liveness{}, true)", "wire.Liveness{}, false)"},
		},
		tests: []string{"TestARecordUnderFaults", "TestAWithdrawalIsFinalUntilItIsTakenBack", "TestALeaseThatIsLeftStaysSoWhateverOtherCallsOfOrphanDo"},
	},
	{
		takesOut: "an Orphan that fails does not publish the address while another one goes on",
		edits: []edit{
			{"liveness.(*Record).Restore", "r.withdrawals == 0 &&", "r.withdrawals < 10 &&"},
		},
		tests: []string{"TestARecordUnderFaults", "TestAWithdrawalIsFinalUntilItIsTakenBack", "TestALeaseThatIsLeftStaysSoWhateverOtherCallsOfOrphanDo"},
	},
	{
		takesOut: "no address is published under a lease that is granted during an Orphan",
		edits: []edit{
			{"liveness.(*Record).SetLease", "case r.withdrawals > 0:", "case r.withdrawals > 10:"},
		},
		tests: []string{"TestARecordUnderFaults", "TestAWithdrawalIsFinalUntilItIsTakenBack"},
	},
	{
		takesOut: "a publication sends nothing more when the record is withdrawn",
		edits: []edit{
			{"liveness.(*Record).endPublication", "r.publication.cancel()", "_ = r.publication.cancel"},
		},
		tests: []string{"TestARecordUnderFaults"},
	},
}
