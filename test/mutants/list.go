package main

import "slices"

const (
	inRoot  = "."
	inQueue = "internal/queue"
	inLease = "internal/lease"
	inWatch = "internal/watch"
	inAlarm = "internal/alarm"
	inWire  = "internal/wire"

	inEtcdKV    = "internal/etcdkv"
	inPerClient = "internal/perclient"
)

// mutations is the list. The pieces are small, so that they outlive most changes around
// them; TestThePiecesAreStillInTheSource tells when one has not.
var mutations = slices.Concat(mutationsOfTheQueue, mutationsOfSharing, mutationsOfTheCommand)

var mutationsOfTheQueue = []mutation{
	// The deadline.
	{
		takesOut: "the deadline counts from the send time (C3, C4)",
		edits:    []edit{{"internal/lease/lease.go", "if c.FromReceipt {", "if true {"}},
		in:       inRoot, tests: []string{"TestAHoldEndsByTheSendTimeOfTheLastAnsweredRenewal"},
	},
	{
		takesOut: "the TTL that deadlines are derived from has no lock-delay in it",
		edits:    []edit{{"internal/lease/lease.go", "return l.granted - l.cfg.Delay", "return l.granted"}},
		in:       inRoot, tests: []string{"TestNothingThatReasonsWithTheTTLCountsTheLockDelay"},
	},
	{
		takesOut: "each try of a request has a bound: of the transactions of SetLimit, too",
		edits:    []edit{{"internal/queue/restate.go", "func(ctx context.Context) (err error) {\n\t\t\tresp", "func(context.Context) (err error) {\n\t\t\tresp"}},
		in:       inRoot, tests: []string{"TestEachRequestToEtcdHasABoundForEachTry", "TestARequestThatHangsIsSentAgainSoon"},
	},
	{
		takesOut: "an answer that comes after the end extends nothing",
		edits:    []edit{{"internal/lease/lease.go", "if l.cfg.Clock() < l.validUntil && l.starved == nil {", "if true {"}},
		in:       inLease, tests: []string{"TestAnAnswerThatComesAfterTheEndIsTooLate"},
	},
	{
		takesOut: "a machine that slept looks at the clock before it says that it holds",
		edits:    []edit{{"hold.go", "_ = h.tenure.lease.Err() // ends the lease, and so the hold, if its time is over", ""}},
		in:       inRoot, tests: []string{"TestAMachineThatSleptPastItsDeadlineKnowsSoWhenItWakesUp"},
	},
	{
		takesOut: "nothing is handed over in memory without a look at the lease",
		edits: []edit{ // each of the two would do
			{"tenure.go", "t.life.over() == nil && t.lease.Err() == nil", "t.life.over() == nil"},
			{"hold.go", "_ = h.tenure.lease.Err() // see Err", ""},
		},
		in: inRoot, tests: []string{"TestNothingIsHandedOverOnAMachineThatHasSleptThroughTheDeadline"},
	},

	// The proof of a grant.
	{
		takesOut: "the own key is looked at before a grant, in a crowd (A6)",
		edits:    []edit{{"internal/queue/await.go", "if len(resp.Kvs) == 0 || string(resp.Kvs[0].Key) != e.Key || !e.standsIn(resp.Kvs) {\n\t\treturn 0, nil, ErrGone\n\t}\n\treturn resp.Header.Revision, youngest(resp.Kvs[1:]), nil", "return resp.Header.Revision, youngest(resp.Kvs[min(1, len(resp.Kvs)):]), nil"}},
		in:       inQueue, tests: []string{"TestInACrowdAWaiterWhoseKeyIsGoneIsNeverGranted"},
	},
	{
		takesOut: "the own key is looked for before a grant, in a view (B1)",
		edits:    []edit{{"internal/queue/view.go", "if own := q.view.entries[e.Key]; own != nil && own.CreateRevision == e.CreateRevision {", "if true {"}},
		in:       inRoot, tests: []string{"TestACandidateWhoseKeyIsGoneDoesNotWinTheCampaign"},
	},
	{
		takesOut: "a key without a lease counts like any other (A15)",
		edits:    []edit{{"internal/queue/mirror.go", "if kv.CreateRevision < createRevision && ", "if kv.Lease != 0 && kv.CreateRevision < createRevision && "}},
		in:       inRoot, tests: []string{"TestAStrayKeyIsWaitedForAndNamed", "FuzzForeignKeys"},
	},
	{
		takesOut: "who finds one older key in the queue is not the first",
		edits:    []edit{{"internal/queue/enter.go", "e.first = e.ahead == nil", "e.first = e.older < 2"}},
		in:       inRoot, tests: []string{"TestALockIsHandedOverInOrder", "FuzzForeignKeys"},
	},
	{
		takesOut: "of the older ones, the youngest is waited for",
		edits:    []edit{{"internal/queue/queue.go", "kv.CreateRevision > y.CreateRevision", "kv.CreateRevision < y.CreateRevision"}},
		in:       inQueue, tests: []string{"TestInACrowdTheOneAheadIsWatchedAndOneReadFollows"},
	},
	{
		takesOut: "the token is the revision at which the hold began (A18)",
		edits:    []edit{{"internal/queue/view.go", "return q.view.rev, nil", "return e.CreateRevision, nil"}},
		in:       inRoot, tests: []string{"TestTokensGrowOverHandoversOfEveryKind"},
	},
	{
		takesOut: "TryLock writes only if nobody is there (A13)",
		edits:    []edit{{"serve.go", "enter = l.queue.TryEnter", "_ = l.queue.TryEnter"}, {"fast.go", "once = l.single.TryEnterOnce", "_ = l.single.TryEnterOnce"}},
		in:       inRoot, tests: []string{"TestOfTwoTryLocksOnAFreeLockOneSucceeds"},
	},
	{
		takesOut: "names that nest are refused (A14)",
		edits:    []edit{{"internal/queue/queue.go", "if inner, ok := wire.Nested(q.name, string(kv.Key)); ok {", "if inner, ok := wire.Nested(q.name, string(kv.Key)); ok && false {"}},
		in:       inRoot, tests: []string{"TestNestedNamesClashAcrossSessions"},
	},
	{
		takesOut: "of two names that nest, the inner one is named",
		edits:    []edit{{"internal/wire/name.go", "i := strings.LastIndexByte(rest, '/')", "i := strings.IndexByte(rest, '/')"}},
		in:       inWire, tests: []string{"TestAKeyOfAnInnerNameIsRecognised", "FuzzNames"},
	},

	// The rules of those who hold beside others.
	{
		takesOut: "a reader waits for the writers who came before him",
		edits:    []edit{{"internal/queue/rule.go", "!letsRead(o, own.CreateRevision)", "!letsRead(o, own.CreateRevision) && false"}},
		in:       inRoot, tests: []string{"TestReadersHoldTogetherAndWritersAlone"},
	},
	{
		takesOut: "no more permits are given than there are",
		edits:    []edit{{"internal/queue/rule.go", "case alone || wanted > limit:", "case alone:"}},
		in:       inRoot, tests: []string{"TestPermitsAreGivenAllAtOnceOrNotAtAll"},
	},

	// Nothing is left behind.
	{
		takesOut: "a delete is guarded by the CreateRevision (A8)",
		edits:    []edit{{"internal/queue/brief.go", "func (b *brief) cmp() clientv3.Cmp { return allCreated(b.from, b.end, b.created) }", "func (b *brief) cmp() clientv3.Cmp {\n	if b.deletes {\n		return clientv3.Compare(clientv3.CreateRevision(b.from), \">\", 0)\n	}\n	return allCreated(b.from, b.end, b.created)\n}"}},
		in:       inQueue, tests: []string{"TestLeavingIsGuardedByTheRevision"},
	},
	{
		takesOut: "an enqueue of unknown outcome is taken back (A4, B2)",
		edits:    []edit{{"serve.go", "case unsure:\n\t\t\tl.suspect(", "case false:\n\t\t\tl.suspect("}},
		in:       inRoot, tests: []string{"TestARequestThatArrivesAfterItWasLookedForLeavesNothing"},
	},
	{
		takesOut: "so is one that was cut off with its caller",
		edits:    []edit{{"fast.go", "if a.unsure {\n\t\t\tl.suspect(", "if false {\n\t\t\tl.suspect("}},
		in:       inRoot, tests: []string{"TestWhoGivesUpInHisFirstRequestLeavesNothing"},
	},
	{
		takesOut: "a Close under a context that has ended makes one attempt (R6)",
		edits:    []edit{{"shutdown.go", "if ctx.Err() == nil {\n\t\treturn ctx, func() {}", "if true {\n\t\treturn ctx, func() {}"}},
		in:       inRoot, tests: []string{"TestACloseUnderAContextThatHasEndedReleasesEverything", "TestAnOrphanUnderAContextThatHasEndedLeavesTheLease"},
	},
	{
		takesOut: "no end of a session cuts the lock-delay short (R7)",
		edits:    []edit{{"shutdown.go", "s.cfg.delay > 0 && (l == present", "s.cfg.delay < 0 && (l == present"}},
		in:       inRoot, tests: []string{"TestADedicatedSessionDoesNotCutTheLockDelayShort", "TestACloseAfterAnExpiryDoesNotCutTheDelayShort"},
	},
	{
		takesOut: "uncertain keys are swept together (R10)",
		edits:    []edit{{"internal/queue/sweep.go", "const MostSwept = 40", "const MostSwept = 1"}},
		in:       inRoot, tests: []string{"TestManyCancelledCallsAreLookedAfterByOneGoroutineWithFewRequests"},
	},
	{
		takesOut: "a key of the former process that fits is adopted in whatever slot (R1)",
		edits:    []edit{{"inherit.go", "l.legacy = legacy{}\n\tif !l.mayInherit(ls) {", "l.legacy = legacy{}\n\tif true {"}},
		in:       inRoot, tests: []string{"TestAPlaceInLineIsTakenOverIfItFits", "TestALockAllInOtherSlotsIsTakenOverAsAWhole"},
	},
	{
		takesOut: "a key of the former process that does not fit is not waited for (R1)",
		edits:    []edit{{"inherit.go", "if !l.mayInherit(ls) || e != nil &&", "if true || e != nil &&"}},
		in:       inRoot, tests: []string{"TestALateRequestOfTheFormerProcessIsNotWaitedFor"},
	},
	{
		takesOut: "a session never gives up a key that it uses (R2)",
		edits:    []edit{{"inherit.go", "k.Lease == s.heir && !s.slots.busy(k.Name, k.Slot)", "k.Lease == s.heir && !s.slots.busy(k.Name, wire.Slot{N: k.Slot.N, Priority: k.Slot.Priority})"}},
		in:       inRoot, tests: []string{"TestASessionNeverGivesUpAKeyThatItUses"},
	},
	{
		takesOut: "a deletion that comes late spares a key that was taken over since (R2)",
		edits:    []edit{{"internal/queue/sweep.go", "clientv3.Compare(clientv3.ModRevision(k.Key), \"=\", own[0].ModRevision)", "created(k.Key, own[0].CreateRevision)"}},
		in:       inRoot, tests: []string{"TestALateDeletionSparesAKeyThatWasTakenOverSince"},
	},
	{
		takesOut: "a lease of another TTL is not gone on with (R3)",
		edits:    []edit{{"leasefile.go", "if l.Granted() == asked {", "if true {"}},
		in:       inRoot, tests: []string{"TestAnotherTTLOrLockDelayThanTheFormerProcessHadIsInForce"},
	},
	{
		takesOut: "what comes late does not stand for long",
		edits:    []edit{{"sweeper.go", "d.at, d.watched, d.pause = time.Now(), false, firstSweep", "d.at, d.watched, d.pause = time.Now(), false, lateEffect"}},
		in:       inRoot, tests: []string{"TestWhoGivesUpInHisFirstRequestLeavesNothing"},
	},
	{
		takesOut: "whose time is short cuts no request off",
		edits:    []edit{{"fast.go", "return ok && time.Until(deadline) <= queue.FirstBound", "return false && ok && time.Until(deadline) <= queue.FirstBound"}},
		in:       inRoot, tests: []string{"TestWhoseTimeIsShortCutsNoRequestOff"},
	},
	{
		takesOut: "an attempt ends when nobody is left whom it serves",
		edits:    []edit{{"fast.go", "l.served, l.wanted = w, &a.wanted", "l.served, l.wanted = w, &span{outer: s.ctx}"}},
		in:       inRoot, tests: []string{"TestWhoJoinedAnAttemptIsNotHeldUpByWhatItWanted", "TestATryRightAfterACancelledAttemptIsNotRefusedForIt"},
	},
	{
		takesOut: "an entry of who has given up by then says what the next one holds",
		edits:    []edit{{"serve.go", "if next := l.front(); next != nil && next != w &&", "if next := l.front(); next == nil && next != w &&"}},
		in:       inRoot, tests: []string{"TestWhoTakesAnAttemptOverSaysWhatHeHolds"},
	},
	{
		takesOut: "a caller whose goroutine ends in his own request leaves the line",
		edits:    []edit{{"fast.go", "if !returned {", "if !returned && false {"}},
		in:       inRoot, tests: []string{"TestACallerWhoseGoroutineEndsInHisRequestLeavesTheLine"},
	},
	{
		takesOut: "a key that was found tells of a request only if it can be of no other one",
		edits:    []edit{{"sweeper.go", "d.requests = min(d.requests+requests, manyRequests)", "d.requests = requests"}},
		in:       inRoot, tests: []string{"TestAKeyOfSomebodyElseLeavesTheDoubt"},
	},
	{
		takesOut: "the key of the process before is taken over by two requests",
		edits:    []edit{{"fast.go", " || s.mayInherit(w.under, l.name) ||", " ||"}},
		in:       inRoot, tests: []string{"TestAProcessGetsWhatItAsksForWhateverTheFormerOneHad"},
	},
	{
		takesOut: "an Unlock without a network is done in the background (A10)",
		edits:    []edit{{"tenure.go", "refused, t.leftErr = l.leave(t.lease, t.queue, t.entry, tried)", "_ = tried"}},
		in:       inRoot, tests: []string{"TestAnUnlockWithoutANetworkEndsAtOnceAndIsDoneLater"},
	},
	{
		takesOut: "Close revokes the lease",
		edits:    []edit{{"shutdown.go", "if err := s.revoke(ctx, l); err != nil {", "if err := error(nil); err != nil {"}},
		in:       inRoot, tests: []string{"TestCloseReleasesAllAndRevokesTheLeaseInOneRequest"},
	},
	{
		takesOut: "Orphan waits for what has to be cleared away",
		edits:    []edit{{"shutdown.go", "!l.tenure.open() && !l.resting {", "!l.tenure.open() && !l.resting && false {"}},
		in:       inRoot, tests: []string{"TestOrphanLeavesNothingButWhatIsHeld"},
	},
	{
		takesOut: "a write that arrives late undoes no later one",
		edits:    []edit{{"internal/queue/queue.go", `clientv3.Compare(clientv3.ModRevision(e.Key), "=", last)`, `clientv3.Compare(clientv3.ModRevision(e.Key), ">", last*0)`}},
		in:       inRoot, tests: []string{"TestALeadersProclamationIsNotOvertakenByAnOlderOne"},
	},

	// The line inside a session.
	{
		takesOut: "one who gives up costs the next one nothing (A3)",
		edits:    []edit{{"line.go", "case next == nil || l.served != nil && !next.inherits(l.served):", "case true:"}},
		in:       inRoot, tests: []string{"TestACallerWhoGivesUpDoesNotCostTheNextOneThePlace"},
	},
	{
		takesOut: "a time slice ends",
		edits:    []edit{{"tenure.go", "s.cfg.clock()-t.began < h.terms.slice", "h.terms.slice > 0"}},
		in:       inRoot, tests: []string{"TestASliceEnds", "TestAStrangerWaitsForOneSliceAndOneCriticalSection"},
	},
	{
		takesOut: "a kept key is given up for whoever lines up",
		edits:    []edit{{"tenure.go", "	t.stranger = true\n	t.giveUpKept()", "	t.stranger = true"}},
		in:       inRoot, tests: []string{"TestAKeptKeyIsSeenByOthersAndGivenUpForWhoLinesUp"},
	},
	{
		takesOut: "somebody listens for strangers as soon as a key is kept",
		edits:    []edit{{"tenure.go", "		t.line.attend() // from now", "		// from now"}},
		in:       inRoot, tests: []string{"TestAKeptKeyIsGivenUpWheneverTheStrangerCame"},
	},
	{
		takesOut: "a young hold is looked after when its lease ends",
		edits:    []edit{{"keeper.go", "		s.attendAll()\n", ""}},
		in:       inRoot, tests: []string{"TestCloseDoesNotWaitForAYoungHold"},
	},
	{
		takesOut: "a young hold is looked after when it is no longer young",
		edits:    []edit{{"fast.go", "	l.session.settle.Set(&l.settled, l)\n	l.young", "	l.young"}, {"tenure.go", "	l.session.settle.Set(&l.settled, l)\n", ""}},
		in:       inRoot, tests: []string{"TestALockThatNobodyElseWantsNeedsNoOtherGoroutine"},
	},
	{
		takesOut: "lines at rest are not in use",
		edits:    []edit{{"names.go", "if err != nil && s.forgetResting() {", "if err != nil && false {"}},
		in:       inRoot, tests: []string{"TestNamesAtRestMayNest"},
	},
	{
		takesOut: "lines do not rest for ever",
		edits:    []edit{{"rest.go", "case time.Since(l.since) < queue.Resting:", "case time.Since(l.since) < 100*queue.Resting:"}},
		in:       inRoot, tests: []string{"TestFewLinesRest"},
	},
	{
		takesOut: "after a wrong guess the watch is there before the entry",
		edits:    []edit{{"internal/queue/enter.go", "		q.openAhead(ctx, w)\n", ""}},
		in:       inRoot, tests: []string{"TestAWrongGuessCostsOneRequest"},
	},
	{
		takesOut: "a view without an entry is closed",
		edits:    []edit{{"internal/queue/enter.go", "if q.view != nil && q.view.ahead {\n\t\tq.closeView", "if q.view != nil && q.view.ahead && false {\n\t\tq.closeView"}},
		in:       inQueue, tests: []string{"TestAViewWithoutAnEntryIsClosed"},
	},
	{
		takesOut: "a guess is made soon or not at all",
		edits:    []edit{{"internal/queue/guess.go", "time.Since(q.emptied) < Resting", "!q.emptied.IsZero()"}},
		in:       inRoot, tests: []string{"TestAGuessIsMadeSoonOrNotAtAll"},
	},
	{
		takesOut: "a guess is made of a queue that was empty only",
		edits:    []edit{{"internal/queue/guess.go", "time.Since(q.emptied) < Resting", "true"}},
		in:       inRoot, tests: []string{"TestEveryPathTakesAsFewRequestsAsPromised"},
	},
	{
		takesOut: "one who keeps its key busy hears of a stranger",
		edits:    []edit{{"internal/queue/view.go", "if shown && keeping && len(q.view.entries) > 1 {", "if shown && keeping && len(q.view.entries) > 1 && false {"}},
		in:       inRoot, tests: []string{"TestAStrangerIsNotStarvedByOneWhoKeepsItsKeyBusy"},
	},
	{
		takesOut: "a deletion of others is not taken for one of ours",
		edits:    []edit{{"internal/queue/watch.go", "string(ev.Kv.Key) == e.Key && ", ""}},
		in:       inRoot, tests: []string{"TestKeptKeysDoNotMakeADeadlock"},
	},

	// What etcd tells, and does not tell.
	{
		takesOut: "watches require a leader (A22)",
		edits:    []edit{{"internal/queue/watch.go", "clientv3.WithRequireLeader(life)", "life"}},
		in:       inQueue, tests: []string{"TestEveryWatchRequiresALeader"},
	},
	{
		takesOut: "whoever waits looks again from time to time (A21)",
		edits:    []edit{{"internal/queue/await.go", "waitResync = 10 * time.Second", "waitResync = 1000 * time.Hour"}},
		in:       inQueue, tests: []string{"TestFollowFindsADeletionThatItsWatchWasNotTold"},
	},
	{
		takesOut: "whoever waits in a view reads it again from time to time (A21)",
		edits:    []edit{{"internal/queue/view.go", "const firstResync = time.Second", "const firstResync = 1000 * time.Hour"}},
		in:       inQueue, tests: []string{"TestAWaitGoesOnWhateverBecomesOfItsWatch"},
	},
	{
		takesOut: "a wait whose watch is silent moves to another stream",
		edits:    []edit{{"internal/queue/view.go", "if q.view.told == told {", "if false && q.view.told == told {"}},
		in:       inQueue, tests: []string{"TestAWaitMovesToAnotherStreamWhenItsWatchIsSilent"},
	},
	{
		takesOut: "the watch on the one ahead is believed only about what came after it was seen",
		edits:    []edit{{"internal/queue/behind.go", "ev.Kv.ModRevision > a.at", "ev.Kv.ModRevision > a.at+1000"}},
		in:       inQueue, tests: []string{"TestInACrowdTheWatchOnTheOneAheadIsKept"},
	},
	{
		takesOut: "a view that hears only of who goes is closed when nobody told it who is ahead",
		edits:    []edit{{"internal/queue/enter.go", "		q.closeStale()\n		err = q.RewriteFor(ctx, e, w) // its place", "		err = q.RewriteFor(ctx, e, w) // its place"}},
		in:       inQueue, tests: []string{"TestAViewIsRightForKeysThatWereThereBefore"},
	},
	{
		takesOut: "who enters briefly compares with the whole queue",
		edits:    []edit{{"internal/queue/enter.go", "&brief{from: q.from, end: q.end, ", "&brief{from: q.key(*w), "}},
		in:       inRoot, tests: []string{"TestABatchInWhichSomeComparisonsFailIsSentAtLength"},
	},
	{
		takesOut: "a batch whose comparisons fail is sent again at length",
		edits:    []edit{{"internal/queue/brief.go", "if all != nil || err != nil {\n			return all, err", "if all == nil {\n			return make([]*clientv3.TxnResponse, len(batch)), context.Canceled\n		} else if all != nil || err != nil {\n			return all, err"}},
		in:       inRoot, tests: []string{"TestABatchInWhichSomeComparisonsFailIsSentAtLength"},
	},
	{
		takesOut: "the writes of a refused batch go on all free lanes",
		edits:    []edit{{"internal/queue/batch.go", "for len(w.waiting) > 0 && w.flying < w.lanes {", "for range 1 {"}},
		in:       inRoot, tests: []string{"TestABatchThatIsRefusedLateIsSentAgainAtOnce"},
	},
	{
		takesOut: "a deletion past the client's KV is guarded",
		edits:    []edit{{"internal/queue/brief.go", "req.Compare[i], req.Success[i] = cmp.GetCompare(), b.request()", "req.Success[i] = b.request()\n		if req.Compare = req.Compare[:0]; !b.deletes {\n			req.Compare = append(req.Compare, cmp.GetCompare())\n		}"}},
		in:       inQueue, tests: []string{"TestBriefWritesAreTheSamePastTheClient"},
	},
	{
		takesOut: "nothing of a request is left on the context that the next one has",
		edits:    []edit{{"internal/alarm/leash.go", "whole = l.stop() && whole", "_ = l.stop"}},
		in:       inAlarm, tests: []string{"TestALeashIsUsedAgain"},
	},
	{
		takesOut: "a context that is kept for the next request does not keep the last caller's",
		edits:    []edit{{"internal/alarm/leash.go", "		l.stop = nil // which keeps the caller's context, with all that is in it\n", ""}},
		in:       inAlarm, tests: []string{"TestALeashDoesNotKeepItsCaller"},
	},
	{
		takesOut: "who gives up in Unlock returns at once",
		edits:    []edit{{"tenure.go", "Leash(t.lease.Context(), ctx)", "Leash(t.lease.Context(), context.WithoutCancel(ctx))"}},
		in:       inRoot, tests: []string{"TestWhoGivesUpInUnlockReturnsAtOnce"},
	},
	{
		takesOut: "with the lease the first request of a caller ends",
		edits:    []edit{{"fast.go", "Leash(a.lease.Context(), ctx)", "Leash(l.session.ctx, ctx)"}},
		in:       inRoot, tests: []string{"TestWithTheLeaseAFirstRequestEnds"},
	},
	{
		takesOut: "contexts of a lease that has ended are let go",
		edits:    []edit{{"internal/alarm/leash.go", "		s.drop()\n", ""}},
		in:       inAlarm, tests: []string{"TestLeashesAreKeptForOneCommonContext"},
	},
	{
		takesOut: "only clientv3's own KV is passed over",
		edits:    []edit{{"internal/etcdkv/plain.go", "isConn(field(field(remote, \"kc\"), \"cc\"), conn) &&", "true &&"}},
		in:       inEtcdKV, tests: []string{"TestOnlyClientv3sOwnKVIsPassedOver"},
	},
	{
		takesOut: "nor is the KV passed over that has another client's options",
		edits:    []edit{{"internal/etcdkv/plain.go", "v.Kind() == reflect.Slice && v.Pointer() == of.Pointer()", "v.Kind() == reflect.Slice"}},
		in:       inEtcdKV, tests: []string{"TestOnlyClientv3sOwnKVIsPassedOver"},
	},
	{
		takesOut: "past the KV a request has the client's options",
		edits:    []edit{{"internal/etcdkv/quiet.go", "once := with(options)", "once := with(nil)"}},
		in:       inEtcdKV, tests: []string{"TestPastTheKVARequestIsSentAsByIt"},
	},
	{
		takesOut: "a request that is cancelled is logged by nobody (L1)",
		edits:    []edit{{"internal/etcdkv/quiet.go", "return slices.Concat(options, once())", "return options"}},
		in:       inEtcdKV, tests: []string{"TestACancelledRequestIsNotLogged"},
	},
	{
		takesOut: "a watch that was compacted is cancelled in etcd too (E13)",
		edits:    []edit{{"internal/watch/stream.go", "if resp.CompactRevision != 0 {", "if false {"}},
		in:       inWatch, tests: []string{"TestACompactedWatchIsCancelledInEtcdToo"},
	},
	{
		takesOut: "a watch by the client that is given up is cancelled when it has been created (E13)",
		edits:    []edit{{"internal/queue/watch.go", "q.writer.givenUp.Add(1) > mostGivenUp", "q.writer.givenUp.Add(1) > 0"}},
		in:       inRoot, tests: []string{"TestWatchesThatAreGivenUpAreNotLeftInEtcd"},
	},
	{
		takesOut: "an observer misses no change because a stream breaks",
		edits:    []edit{{"internal/queue/resume.go", "clientv3.WithRange(q.end), clientv3.WithRev(last.since+1))", "clientv3.WithRange(q.end))"}},
		in:       inQueue, tests: []string{"TestNoChangeIsMissedBecauseAStreamBreaks"},
	},
	{
		takesOut: "the sessions of a client share their streams (R8)",
		edits:    []edit{{"internal/perclient/perclient.go", "e := s.all[id]", "e := s.all[new(byte)]"}},
		in:       inRoot, tests: []string{"TestTwoHundredSessionsGoByAFewStreams"},
	},
	{
		takesOut: "few streams of renewals that hang are kept (R8)",
		edits:    []edit{{"internal/perclient/renewals.go", "len(r.hanging) == mostHanging", "false"}},
		in:       inPerClient, tests: []string{"TestStreamsStayFewWhileEtcdHangs"},
	},
	{
		takesOut: "a successor says anew where it listens, also in the place of the former process",
		edits:    []edit{{"alive.go", "(tried || own.Address == \"\")", "(tried || true)"}},
		in:       inRoot, tests: []string{"TestALeaseIsEitherTakenOverOrCondemned"},
	},
	{
		takesOut: "short leases do not end the renewals of long ones",
		edits:    []edit{{"internal/perclient/stream.go", "time.Since(q.began) < q.patience", "time.Since(q.began) < 0"}},
		in:       inPerClient, tests: []string{"TestSessionsOfShortLeasesDoNotEndTheLongLeasesOfOthers"},
	},
	{
		takesOut: "a renewal that was given up says nothing of its lease",
		edits:    []edit{{"internal/perclient/stream.go", "q.err = context.Canceled", "q.err = nil"}},
		in:       inPerClient, tests: []string{"TestARenewalThatWasGivenUpBeforeItWasSentSaysNothingOfTheLease"},
	},
	{
		takesOut: "Close leaves the lock-delay also after an expiry that nobody has seen",
		edits:    []edit{{"shutdown.go", "l == present && expired ||", "l == present && expired && false ||"}},
		in:       inRoot, tests: []string{"TestACloseAfterAnExpiryThatNobodyHasSeenDoesNotCutTheDelayShort"},
	},
	{
		takesOut: "a lease that breaks the stream is renewed alone (R8)",
		edits:    []edit{{"internal/perclient/stream.go", "blamed := len(st.sent) > 0 && answer.Final(err)", "blamed := len(st.sent) > 0 && answer.Final(err) && false"}},
		in:       inPerClient, tests: []string{"TestALeaseThatBreaksTheStreamIsRenewedAlone"},
	},
	{
		takesOut: "an answer is not taken for that to a later renewal (R8)",
		edits:    []edit{{"internal/perclient/renewals.go", "earlier = r.current.asked[id]", "_ = id"}},
		in:       inPerClient, tests: []string{"TestAnAnswerBelongsToItsOwnRenewal"},
	},
	{
		takesOut: "few streams of watches that were left are kept (R8)",
		edits:    []edit{{"internal/watch/stream.go", "len(st.of.retired) > mostRetired", "false"}},
		in:       inWatch, tests: []string{"TestStreamsThatWereLeftAreFew"},
	},
	{
		takesOut: "the streams of watches require a leader (A22)",
		edits:    []edit{{"internal/watch/stream.go", "clientv3.WithRequireLeader(of.life)", "of.life"}},
		in:       inWatch, tests: []string{"TestAStreamRequiresALeader"},
	},
	{
		takesOut: "a watch that is not answered sends the next ones to another stream",
		edits:    []edit{{"internal/watch/watcher.go", "w.MoveOn()", "_ = w"}},
		in:       inWatch, tests: []string{"TestAWatchThatIsNotAnsweredSendsTheNextOnesElsewhere"},
	},
	{
		takesOut: "a watch whose reader is too slow ends, instead of leaving something out",
		edits:    []edit{{"internal/watch/stream.go", "len(resp.Events) > 0 && !w.put(resp)", "len(resp.Events) > 0 && !w.put(resp) && false"}},
		in:       inWatch, tests: []string{"TestASlowReaderLosesItsWatchAndNobodyElse"},
	},
	{
		takesOut: "a server that answers in any order is asked for one watch at a time",
		edits:    []edit{{"internal/watch/stream.go", "st.obeys && len(st.asked) < window", "len(st.asked) < window"}},
		in:       inWatch, tests: []string{"TestAServerThatPicksTheIDsIsAskedForOneAtATime"},
	},
	{
		takesOut: "a stream whose token ran out is replaced (E1)",
		edits:    []edit{{"internal/watch/stream.go", "if stale(resp.CancelReason) {", "if false {"}},
		in:       inWatch, tests: []string{"TestAStreamWhoseTokenRanOutIsReplaced"},
	},
	{
		takesOut: "a refused batch fails only the one that is to blame",
		edits:    []edit{{"internal/queue/batch.go", "if err != nil && answer.Final(err) {", "if err != nil && answer.Final(err) && false {"}},
		in:       inRoot, tests: []string{"TestARefusedBatchFailsOnlyTheOneThatIsToBlame"},
	},
	{
		takesOut: "an error without a code is not etcd's last word",
		edits:    []edit{{"internal/answer/answer.go", "codes.Internal,\n		codes.Unknown:", "codes.Internal:"}},
		in:       inRoot, tests: []string{"TestAnErrorWithoutACodeIsAskedForAgain"},
	},

	// Elections.
	{
		takesOut: "a vacancy is an observation (B8)",
		edits:    []edit{{"internal/queue/follow.go", "f.told, f.last = true, first\n", "f.told, f.last = true, first\n	if first == nil {\n		return true, nil\n	}\n"}},
		in:       inRoot, tests: []string{"TestAnObserverSeesThePresentLeaderFirst"},
	},
	{
		takesOut: "Run resigns only when the work has returned (B13)",
		edits:    []edit{{"run.go", "err = r.fn(work, term)", "context.AfterFunc(ctx, func() { term.abandon() })\n	err = r.fn(work, term)"}},
		in:       inRoot, tests: []string{"TestRunResignsOnlyAfterTheWorkHasReturned"},
	},
	{
		takesOut: "the queue is told in the order of its revisions",
		edits:    []edit{{"internal/queue/queue.go", "clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))", "clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))"}},
		in:       inRoot, tests: []string{"TestTheQueueTellsWhoHoldsAndWhoWaitsInOrder"},
	},
	{
		takesOut: "the oldest candidate leads",
		edits:    []edit{{"internal/queue/mirror.go", "kv.CreateRevision < first.CreateRevision", "kv.CreateRevision > first.CreateRevision"}},
		in:       inQueue, tests: []string{"TestFollowTellsEveryChangeOfWhoIsFirstWithItsRevision"},
	},

	// Services.
	{
		takesOut: "work that does not stop is not renewed for ever (E7)",
		edits:    []edit{{"watchdog.go", "g.starve(fmt.Errorf(\"its work", "_ = (fmt.Errorf(\"its work"}},
		in:       inRoot, tests: []string{"TestTheTermOfWorkThatDoesNotStopIsLeftToItsLease"},
	},
	{
		takesOut: "nor is work that reports no progress (E7)",
		edits:    []edit{{"watchdog.go", "g.starve(why)\n			g.tell", "g.tell"}},
		in:       inRoot, tests: []string{"TestALeaderThatReportsNoProgressMakesRoom"},
	},
	{
		takesOut: "a process whose work ignores a loss ends before others lead",
		edits:    []edit{{"watchdog.go", "left := min(time.Until(until), g.term.timeFor(eighths))", "left := time.Until(until)"}},
		in:       inRoot, tests: []string{
			"TestAProcessWhoseWorkIgnoresTheLossOfItsTermEndsBeforeAnybodyElseLeads",
			"TestAProcessWhoseTermIsLostWhileItsWorkStopsEndsBeforeAnybodyElseLeads",
		},
	},
	{
		takesOut: "work that steps down is no failure to look out for others (E14)",
		edits:    []edit{{"takeover.go", "case term.Err() == nil && work.Err() == nil:", "case work.Err() == nil:"}},
		in:       inRoot, tests: []string{"TestWorkThatStepsDownRaisesNoFalseAlarm"},
	},
	{
		takesOut: "a callback that ends its goroutine does not take the others along (E12)",
		edits:    []edit{{"role.go", "if calling {", "if false {"}},
		in:       inRoot, tests: []string{"TestACallbackThatCallsGoexitHasReturned"},
	},
	{
		takesOut: "a hold that is forgotten before its lease's end is told is named all the same (L2)",
		edits:    []edit{{"loss.go", "s.losses = append(s.losses, t)", "_ = t"}},
		in:       inRoot, tests: []string{"TestALostLeaseIsLoggedWithWhatWasHeldUnderIt", "TestOfManyLostHoldsAFewAreNamed"},
	},
	{
		takesOut: "nothing is handed over from under a nested hold (L8)",
		edits:    []edit{{"hold.go", "if successor != nil && !t.closeFor(h) {", "if false {"}},
		in:       inRoot, tests: []string{"TestATransferUnderANestedHoldIsRefused"},
	},
	{
		takesOut: "a lease that was given up on purpose says so",
		edits:    []edit{{"internal/lease/lease.go", "if l.starved != nil {\n\t\treturn Lost(", "if false {\n\t\treturn Lost("}},
		in:       inRoot, tests: []string{"TestTheEndOfALeaseIsLoggedAsWhatItWas"},
	},
	{
		takesOut: "a candidate that finds a key written again looks for marks (E3)",
		edits:    []edit{{"internal/queue/prefer.go", "if q.sawMark || m.touched() {", "if q.sawMark {"}},
		in:       inRoot, tests: []string{"TestAForeignCandidateThatIsNamedLeadsOnce", "TestATransferMeetsAKeyThatIsWrittenAgain"},
	},
	{
		takesOut: "a mark goes with its leader (E3)",
		edits:    []edit{{"internal/queue/prefer.go", "e.touched.Load() || was.ModRevision > e.modRevision.Load()", "false"}},
		in:       inRoot, tests: []string{"TestAMarkGoesWithItsLeader"},
	},
	{
		takesOut: "a starved lease is renewed no more",
		edits:    []edit{{"internal/lease/keep.go", "if l.isStarved() {", "if false {"}},
		in:       inLease, tests: []string{"TestAStarvedLeaseIsRenewedNoMoreAndEndsAtItsDeadline"},
	},
	{
		takesOut: "who flaps is asked for more",
		edits:    []edit{{"health.go", "v.need = min(2*v.need, maxNeed*v.failures)", "v.need = v.failures"}},
		in:       inRoot, tests: []string{"TestWhoFlapsIsAskedForMoreAndWhoIsWellForLongIsForgiven", "TestTheVerdictOnHealth"},
	},
	{
		takesOut: "observers share a watch",
		edits:    []edit{{"observation.go", "o = s.observations[name]\n", "o = nil\n"}},
		in:       inRoot, tests: []string{"TestManyObserversOfOneElectionShareOneWatch"},
	},
	{
		takesOut: "what is kept for observers is bounded",
		edits:    []edit{{"observation.go", "for len(o.changes) > 1 && (", "for false && ("}},
		in:       inRoot, tests: []string{"TestWhatAnObservationKeepsIsBounded"},
	},
	{
		takesOut: "a smaller revision is another timeline",
		edits:    []edit{{"internal/timeline/timeline.go", "return h.Revision >= m.revision &&", "return true || h.Revision >= m.revision &&"}},
		in:       inRoot, tests: []string{"TestARollbackEndsEachHold", "TestObserversBeginAgainAfterARollback"},
	},
	{
		takesOut: "another cluster is another timeline",
		edits:    []edit{{"internal/timeline/timeline.go", "(h.ClusterId == m.cluster || ", "(true || h.ClusterId == m.cluster || "}},
		in:       inRoot, tests: []string{"TestARestoreWithABumpedRevision"},
	},
	{
		takesOut: "a limit from another timeline is read again",
		edits:    []edit{{"semaphore.go", "case o.timeline != timeline:", "case false:"}},
		in:       inRoot, tests: []string{"TestALimitFromBeforeARollbackIsReadAgain"},
	},
	{
		takesOut: "a leader that may have given up during an outage is marked",
		edits:    []edit{{"outage.go", "h.Unconfirmed = o.Until", "h.Unconfirmed = false && o.Until"}},
		in:       inRoot, tests: []string{"TestALeaderThatMayHaveGivenUpDuringAnOutageIsMarked"},
	},
	{
		takesOut: "a lease that was given up is revoked however long etcd is away",
		edits:    []edit{{"keeper.go", "s.revokeAtLast(s.ctx, l) != nil", "s.revoke(s.ctx, l) != nil"}},
		in:       inRoot, tests: []string{"TestASessionThatHasGivenUpRevokesItsLeaseAfterAnyOutage"},
	},
	{
		takesOut: "who joins other observers is told who leads",
		edits:    []edit{{"observation.go", "if shared {", "if false {"}},
		in:       inRoot, tests: []string{"TestManyObserversOfOneElectionShareOneWatch"},
	},
	{
		takesOut: "only a refusal tells that a process is dead",
		edits:    []edit{{"sentinel.go", "!errors.Is(err, syscall.ECONNREFUSED)", "errors.Is(err, syscall.EPERM)"}},
		in:       inRoot, tests: []string{"TestALeaderThatMayLiveIsLeftToItsTTL"},
	},
	{
		takesOut: "a candidate backs off however short its connections to the leader are",
		edits:    []edit{{"sentinel.go", "if lived && time.Since(began) >= steady {", "if lived {"}},
		in:       inRoot, tests: []string{"TestACandidateBacksOffHoweverShortItsConnectionsAre", "TestACandidateTooManyBacksOff"},
	},
	{
		takesOut: "any candidate revokes a lease that is condemned",
		edits:    []edit{{"sentinel.go", "			s.revokeDead(name, l, r)\n			return\n", "			return\n"}},
		in:       inRoot, tests: []string{"TestALostAnswerDoesNotKeepADeadLeader", "TestAnyProcessRevokesACondemnedLease"},
	},
	{
		takesOut: "a lease is either taken over or condemned",
		edits:    []edit{{"alive.go", "case r.Condemned:", "case false:"}},
		in:       inRoot, tests: []string{"TestALeaseIsEitherTakenOverOrCondemned"},
	},
	{
		takesOut: "a session that is left to a successor is no dead process",
		edits:    []edit{{"shutdown.go", "err := s.hush(ctx, s.Lease())", "var err error"}},
		in:       inRoot, tests: []string{"TestALeaseThatIsLeftToASuccessorIsNotTakenForThatOfADeadProcess"},
	},
	{
		takesOut: "a Run whose client is closed keeps its process from being taken for dead while its work stops",
		edits:    []edit{{"shutdown.go", "if how != endWithClient || !s.cfg.dedicated {", "if true {"}},
		in:       inRoot, tests: []string{"TestAClientThatIsClosedDoesNotMakeItsProcessADeadOne"},
	},
	{
		takesOut: "what is acquired under a later lease is not the session's",
		edits:    []edit{{"compat/concurrency/session.go", "return s.inner.Lease() == s.id", "return true"}},
		in:       "compat/concurrency", tests: []string{"TestAGrantUnderALaterLeaseIsNotTaken"},
	},
	{
		takesOut: "two processes never share a lease file",
		edits:    []edit{{"flock_unix.go", "return false, nil", "return true, nil"}},
		in:       inRoot, tests: []string{"TestTwoProcessesNeverShareALeaseFile"},
	},
	{
		takesOut: "what was closed is not taken up again",
		edits:    []edit{{"shutdown.go", "	s.record(clientv3.NoLease)\n", ""}},
		in:       inRoot, tests: []string{"TestALeaseThatWasClosedIsNotTakenOver"},
	},
}
