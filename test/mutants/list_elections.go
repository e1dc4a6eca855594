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
	{
		takesOut: "a term that is asked to resign is resigned only when its work has returned (B13)",
		edits: []edit{
			{"leaderloop.(*loop).honour", "stop(&requested{to, by})", "stop(&requested{to, by}); _ = resign(ctx, term, &requested{to, by})"},
		},
		tests: []string{"TestWhateverStopsTheWorkTheTermIsGivenBackAfterwards", "TestALeaderThatIsAskedToResignStopsItsWorkFirst", "TestSwitchoversInFoulWeather"},
	},
	{
		takesOut: "a request for a transfer is not a resignation",
		edits: []edit{
			{"leaderloop.resign", `&& r.to != ""`, "&& false"},
		},
		tests: []string{"TestWhateverStopsTheWorkTheTermIsGivenBackAfterwards", "TestALeaderThatIsAskedTransfersToTheCandidateThatIsNamed"},
	},
	{
		takesOut: "the announcement stands, and requests are heard, while the work stops",
		edits: []edit{
			{"leaderloop.(*loop).lead", "term.Within(context.WithoutCancel(ctx))", "term.Within(work)"},
		},
		tests: []string{"TestWhateverStopsTheWorkTheTermIsGivenBackAfterwards", "TestALeaderThatIsAskedTransfersToTheCandidateThatIsNamed"},
	},
	{
		takesOut: "a leader that was asked to resign waits until another one leads",
		edits: []edit{
			{"leaderloop.(*loop).campaigns", "sleep(ctx, requestedPause)", ""},
		},
		tests: []string{"TestRunCampaignsASecondAfterARequest", "TestALeaderOfTheHighestPriorityThatIsAskedToResignDoesNotLeadAgainAtOnce"},
	},
	{
		takesOut: "a request is to one term",
		edits: []edit{
			{"ask.(*posted).concerns", "&& a.CreateRevision == e.CreateRevision", ""},
		},
		tests: []string{"TestARequestForAnEarlierTermIsIgnored", "TestTheNextHolderIsNotToldWhatTheOneBeforeWasAsked"},
	},
	{
		takesOut: "a request reaches a holder in a namespace",
		edits: []edit{
			{"ask.(*posted).concerns", "wire.Tail(wire.FromText(a.Key)) == wire.Tail(e.Key)", "wire.FromText(a.Key) == e.Key"},
		},
		tests: []string{"TestARequestReachesAHolderInANamespace"},
	},
	{
		takesOut: "an announcement is of one term",
		edits: []edit{
			{"ask.announces", "&& a.CreateRevision == createRevision", ""},
		},
		tests: []string{"TestATermOfASessionWithARunThatHonoursRequestsDoesNotHonourThem"},
	},
	{
		takesOut: "an announcement of a former process is deleted",
		edits: []edit{
			{"ask.(*Requests).OfOthers", `_, by, ok = strings.Cut(key, announcements(""))`, ""},
		},
		tests: []string{"TestTheAnnouncementOfAFormerProcessIsDeleted"},
	},
	{
		takesOut: "the work does not end for a candidate that does not wait",
		edits: []edit{
			{"etcdlock.(*runTerm).Honour", "case follows:", "case follows || true:"},
		},
		tests: []string{"TestACandidateThatIsGoneGetsNoTransfer"},
	},
	{
		takesOut: "a leader resigns if the candidate has left meanwhile",
		edits: []edit{
			{"etcdlock.(*runTerm).ResignTo", "return t.Resign(ctx)", "return err"},
		},
		tests: []string{"TestALeaderWhoseCandidateHasLeftResigns"},
	},
	{
		takesOut: "the asker is told when the candidate leaves while the leader stands",
		edits: []edit{
			{"ask.(*Requests).awaitResignation", "waiting, err := r.mayFollow(all)", "waiting, err := all, error(nil)"},
			{"ask.(*Requests).awaitResignation", `r.Candidate != "" && !slices`, "false && !slices"},
		},
		tests: []string{"TestACandidateThatIsGoneGetsNoTransfer"},
	},
	{
		takesOut: "the asker is told when another candidate is next",
		edits: []edit{
			{"ask.(*Request).isNext", "case string(next.Value) != r.Candidate:", "case false:"},
		},
		tests: []string{"TestALeaderThatIsAskedTransfersToTheCandidateThatIsNamed", "TestASwitchoverWhileSomethingElseHappens"},
	},
	{
		takesOut: "a candidate that was named is next though an older one has not moved yet",
		edits: []edit{
			{"queue.(*Queue).Next", "candidates[0].Successor == 0 && candidates[order[1]].Successor != 0", "false"},
		},
		tests: []string{"TestALeaderThatIsAskedTransfersToTheCandidateThatIsNamed", "TestASwitchoverWhileSomethingElseHappens"},
	},
	{
		takesOut: "a leader does not resign for nobody",
		edits: []edit{
			{"etcdlock.(*runTerm).Honour", "case follows:", `case follows || r.Candidate == "":`},
		},
		tests: []string{"TestNoLeaderResignsForNobody"},
	},
	{
		takesOut: "a leader does not resign for a candidate that is cut off",
		edits: []edit{
			{"etcdlock.(*Term).follows", "&& lease.Lives(ctx, t.engine.Leases, clientv3.LeaseID(kv.Lease))", ""},
			{"ask.(*Requests).living", "lease.Lives(ctx, s.cfg.Leases, clientv3.LeaseID(kv.Lease))", "true"},
		},
		tests: []string{"TestNoLeaderResignsForACandidateThatIsCutOff"},
	},
	{
		takesOut: "a paused leader resigns for a named candidate only",
		edits: []edit{
			{"etcdlock.(*Term).follows", `|| value == "" && paused`, "|| false && paused"},
		},
		tests: []string{"TestNoLeaderResignsForNobody"},
	},
	{
		takesOut: "a request that could not be fulfilled is looked at again",
		edits: []edit{
			{"ask.(*hearing).hear", "if !r.done && time.Until(r.next) <= 0 {", "if first {"},
		},
		tests: []string{"TestAHearingRemembersOnlyTheRequestsThatStand", "TestNoLeaderResignsForNobody", "TestARequestIsNotForgottenWhenEtcdRefusesARead"},
	},
	{
		takesOut: "a holder remembers only the requests that stand",
		edits: []edit{
			{"ask.(*hearing).hear", "stand := make(map[string]received)", "stand := h.received; if stand == nil { stand = make(map[string]received) }"},
		},
		tests: []string{"TestAHearingRemembersOnlyTheRequestsThatStand"},
	},
	{
		takesOut: "an announcement that was deleted is written again",
		edits: []edit{
			{"ask.(*Requests).Honour", "if stood && !stands {", "if false && stood {"},
		},
		tests: []string{"TestAnAnnouncementThatIsDeletedIsWrittenAgain"},
	},
	{
		takesOut: "a leader that cannot announce tries again",
		edits: []edit{
			{"leaderloop.(*loop).honour", "if ctx.Err() != nil || term.Err() != nil {", "if err != nil {"},
		},
		tests: []string{"TestALeaderAnnouncesAgainAfterARefusalThatPasses"},
	},
	{
		takesOut: "an asker waits for the announcement of a young leader",
		edits: []edit{
			{"ask.announcesWithin", "6 * time.Second", "2 * time.Second"},
		},
		tests: []string{"TestALeaderThatAnnouncesLateHonoursRequests"},
	},
	{
		takesOut: "work that was asked, and transfers by itself, does not end Run",
		edits: []edit{
			{"leaderloop.(*loop).judge", "told := e.told != nil && !errors.Is(e.told, lockerr.ErrReleased)", "told := false"},
		},
		tests: []string{"TestWorkThatTransfersByItselfWhenAskedDoesNotEndRun"},
	},
	{
		takesOut: "the hook Asked is called once for a request",
		edits: []edit{
			{"etcdlock.hold.Asked", "&& !h.traced.honours", ""},
		},
		tests: []string{"TestTheHookAskedIsCalledOnceForARequest"},
	},
	{
		takesOut: "a request is not written after its asker has given up",
		edits: []edit{
			{"ask.(*Requests).post", "queue.Put(ctx, s.cfg.KV", "queue.Put(ls.Context(), s.cfg.KV"},
		},
		tests: []string{"TestNoRequestIsWrittenAfterTheAskerHasGivenUp"},
	},
	{
		takesOut: "a late deletion spares the announcement of the next process",
		edits: []edit{
			{"queue.Delete", `clientv3.Compare(clientv3.ModRevision(key), "=", rev)`, `clientv3.Compare(clientv3.ModRevision(key), ">", int64(0))`},
		},
		tests: []string{"TestALateDeletionSparesTheAnnouncementOfTheNextProcess"},
	},
	{
		takesOut: "a transfer is to the youngest entry that lives",
		edits: []edit{
			{"etcdlock.(*Term).candidate", "for _, kv := range slices.Backward(all) {", "for _, kv := range all {"},
		},
		tests: []string{"TestATransferToARestartedCandidateGoesToTheEntryThatLives"},
	},
	{
		takesOut: "the asker of a request is told when the next process honours none",
		edits: []edit{
			{"ask.(*Requests).awaitResignation", "if !announced && deaf &&", "if false && deaf &&"},
		},
		tests: []string{"TestARequestThatIsNotHonouredEnds"},
	},
	{
		takesOut: "the asker is told of the candidate of another library that is ahead",
		edits: []edit{
			{"ask.(*Request).isNext", "case next == oldest:", "case true:"},
		},
		tests: []string{"TestTheAskerOfATransferIsToldWhichCandidateFollows", "TestATransferToARestartedCandidateGoesToTheEntryThatLives"},
	},
	{
		takesOut: "the host of a request is quoted",
		edits: []edit{
			{"etcdlock.(*ReleaseRequest).by", "wire.Quote(r.Host)", "r.Host"},
		},
		tests: []string{"TestTheTextOfARequestIsQuoted"},
	},
	{
		takesOut: "an election is not paused while an entry waits that would lead",
		edits: []edit{
			{"pause.allows", "i > 0 && !knows(kv, noted[kv.Lease])", "i < 0 && !knows(kv, noted[kv.Lease])"},
		},
		tests: []string{"TestAnElectionIsNotPausedWhileAnEntryThatDoesNotShowThatItUnderstandsWaits", "TestAnEntryThatComesWhileAPauseBeginsPreventsIt"},
	},
	{
		takesOut: "a pause looks at the queue again when its entry stands",
		edits: []edit{
			{"pause.Begin", "err = allows(after.Responses[2:])", "_ = after"},
		},
		tests: []string{"TestAnEntryThatComesWhileAPauseBeginsPreventsIt"},
	},
	{
		takesOut: "a transfer is not to a candidate behind a pause",
		edits: []edit{
			{"etcdlock.(*Term).waiting", "paused = wire.Pauses(string(kv.Key)); paused {", "false && wire.Pauses(string(kv.Key)) {"},
		},
		tests: []string{"TestATransferAheadOfAPauseWorks"},
	},
	{
		takesOut: "no candidate has the priority of a pause",
		edits: []edit{
			{"etcdlock.(*electionConfig).validate", "case c.priority >= wire.PausePriority:", "case false:"},
		},
		tests: []string{"TestNoCandidateHasThePriorityOfAPause"},
	},
	{
		takesOut: "a pause without a leader is a vacancy",
		edits: []edit{
			{"etcdlock.Leader.Vacant", "|| l.Paused()", ""},
		},
		tests: []string{"TestWhileAnElectionIsPausedTheLeaderStaysAndNoOtherLeads"},
	},
}
