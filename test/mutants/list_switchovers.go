package main

// switchoverMutations are about leaders that are asked to resign, and paused elections.
var switchoverMutations = []mutation{
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
			{"pause.Begin", "err = allows(name, after.Responses[2:])", "_ = after"},
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
