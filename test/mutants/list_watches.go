package main

// watchMutations are about watches, streams and what etcd may leave out.
var watchMutations = []mutation{
	{
		takesOut: "a session that keeps its key busy hears of another one",
		edits: []edit{
			{"queue.(*kept).Stay", "case shown && keeping && len(c.entries) > 1:", "case shown && keeping && len(c.entries) > 1 && false:"},
			{"queue.(*Guard).hear", "case g.keeping && g.others(resp.Events):", "case g.keeping && g.others(resp.Events) && false:"},
		},
		tests: []string{"TestAStrangerIsNotStarvedByOneWhoKeepsItsKeyBusy"},
	},
	{
		takesOut: "the keys of holds are read from time to time, and a stream that hid a deletion is left (A21, C12)",
		edits: []edit{
			{"queue.(*reading).done", "g.checked(behind)", "g.checked(behind && false)"},
		},
		tests: []string{"TestAGuardFindsADeletionThatItsWatchDidNotReport"},
	},
	{
		takesOut: "the keys of many holds are read by few requests",
		edits: []edit{
			{"queue.(*Keeper).startJobs", "min(len(k.unread), mostRead)", "1"},
		},
		tests: []string{"TestAKeeperSendsFewRequestsForManyHolds"},
	},
	{
		takesOut: "a bounded number of watches is opened at a time",
		edits: []edit{
			{"queue.(*Keeper).startJobs", "k.opening < mostOpening", "true"},
		},
		tests: []string{"TestAKeeperSendsFewRequestsForManyHolds"},
	},
	{
		takesOut: "a reading that hangs keeps no other from its turn",
		edits: []edit{
			{"queue.(*Keeper).startJobs", "k.now() >= k.nextReading()", "len(k.unread) > 0 && k.reading == 0"},
		},
		tests: []string{"TestReadingsThatHangKeepNoOtherGuardFromItsTurn"},
	},
	{
		takesOut: "a key is read while the opening of its watch waits for others that hang",
		edits: []edit{
			{"queue.(*Guard).lineUp", "g.ask(due)", ""},
		},
		tests: []string{"TestOpeningsThatHangKeepNoOtherGuardFromBeingRead"},
	},
	{
		takesOut: "a keeper that gets idle loses no guard that is added",
		edits: []edit{
			{"queue.(*Keeper).add", "k.put(func() {", "k.mu.Unlock()\n\tk.post(func() {"},
			{"queue.(*Keeper).add", "k.mu.Unlock()\n\tif start", "if start"},
		},
		tests: []string{"TestAGuardThatIsAddedWhileTheKeeperGetsIdleIsKept"},
	},
	{
		takesOut: "an ownership whose loss has no cause yet is not finished as released",
		edits: []edit{
			{"local.(*Ownership).leave", " || t.state == lost && t.life.Cause() == nil", ""},
		},
		tests: []string{"TestAReaderThatReleasesAnEvictedKeyReleasesNoOther", "TestAWriterThatDowngradesAnEvictedKeyIsEvicted"},
	},
	{
		takesOut: "a hold does not wait for the causes of two losses, one after the other",
		edits: []edit{
			{"lockmgr.(*Manager).explain", "m.whyGoneUntil(at.Add(explainWithin), ", "m.whyGone("},
			{"lockmgr.(*Manager).explain", "all, at := m.TakeEvicted()", "all, _ := m.TakeEvicted()"},
		},
		tests: []string{"TestNoHoldContinuesForLongerWhileACauseIsAskedFor"},
	},
	{
		takesOut: "the log has one line for many keys that other clients delete",
		edits: []edit{
			{"local.(*deleted).add", "max(logSoon, s.due-now)", "logSoon"},
		},
		tests: []string{"TestTheLogHasOneLineForManyDeletedKeys"},
	},
	{
		takesOut: "holds that are lost for different causes have a line each",
		edits: []edit{
			{"local.(*deleted).add", "text := cause.Error()", "text := \"\""},
		},
		tests: []string{"TestTheLogHasALineForEachCauseOfALoss"},
	},
	{
		takesOut: "the end of a session does not wait for the log",
		edits: []edit{
			{"local.(*Table).logDeleted", "case <-m.cfg.Life.Done():", "case <-make(chan int):"},
		},
		tests: []string{"TestTheLogHasALineForEachCauseOfALoss"},
	},
	{
		takesOut: "one key that may not be read does not keep others from being read",
		edits: []edit{
			{"queue.(*Keeper).readInParts", "half > 0 &&", "half < 0 &&"},
		},
		tests: []string{"TestAKeyThatMayNotBeReadConcernsItsHoldOnly"},
	},
	{
		takesOut: "a watch that ends while it is being opened is opened again",
		edits: []edit{
			{"queue.(*Guard).opened", "} else if g.broken {", "} else if false {"},
		},
		tests: []string{"TestAGuardHearsOfTheEndOfAWatchThatIsBeingOpened"},
	},
	{
		takesOut: "a guard opens one watch at a time",
		edits: []edit{
			{"queue.(*Guard).lineUp", "if g.closed {", "if false {"},
		},
		tests: []string{"TestAGuardOpensOneWatchAtATime"},
	},
	{
		takesOut: "etcd is asked once why many keys are gone",
		edits: []edit{
			{"lockmgr.(*Manager).explain", "if causes[d.Lease] == nil {", "if true {"},
		},
		tests: []string{"TestManyDeletedKeysAreAskedForTogether"},
	},
	{
		takesOut: "the deletion of another key is not taken for that of the own one",
		edits: []edit{
			{"queue.deleted", "string(ev.Kv.Key) == e.Key &&", ""},
		},
		tests: []string{"TestACacheThatMissesOurKeyIsNotBelieved"},
	},
	{
		takesOut: "watches require a leader (A22)",
		edits: []edit{
			{"queue.(*watching).create", "clientv3.WithRequireLeader(life)", "life"},
		},
		tests: []string{"TestEveryWatchRequiresALeader"},
	},
	{
		takesOut: "a watch on the own key that is had by a member that lags, or of another timeline, is followed by a look (R5)",
		edits: []edit{
			{"queue.(*follower).opens", "if w.doubtful || ", "if "},
		},
		tests: []string{"TestAMemberThatLagsCostsARequestOnlyWhereNoneFollows"},
	},
	{
		takesOut: "a waiter reads again from time to time (A21)",
		edits: []edit{
			{"queue.waitResync", "waitResync = 10 * time.Second", "waitResync = 1000 * time.Hour"},
		},
		tests: []string{"TestFollowFindsADeletionThatItsWatchWasNotTold"},
	},
	{
		takesOut: "a waiter with a view reads it again from time to time (A21)",
		edits: []edit{
			{"queue.shortly", "first: firstResync, longest: waitResync", "first: 1000 * time.Hour, longest: 1000 * time.Hour"},
		},
		tests: []string{"TestAWaitGoesOnWhateverBecomesOfItsWatch"},
	},
	{
		takesOut: "a wait whose watch is silent moves to another stream",
		edits: []edit{
			{"queue.(*rangeCache).next", "c.checked(c.behind(s))", "c.checked(false)"},
		},
		tests: []string{"TestAWaitMovesToAnotherStreamWhenItsWatchIsSilent"},
	},
	{
		takesOut: "a wait in a long queue whose watch is silent moves to another stream",
		edits: []edit{
			{"queue.(*wait).look", "w.theirs.checked(!known)", "w.theirs.checked(false)"},
		},
		tests: []string{"TestAWaitBehindAPredecessorLeavesAStreamThatIsSilent"},
	},
	{
		takesOut: "a stream that is silent is given up, also if the wait ends",
		edits: []edit{
			{"queue.(*kept).keepTheirs", "|| f.late ", ""},
		},
		tests: []string{"TestAWaitBehindAPredecessorLeavesAStreamThatIsSilent"},
	},
	{
		takesOut: "an observer leaves a stream that is silent",
		edits: []edit{
			{"queue.(*heads).learn", "h.since == h.before && ", "false && "},
		},
		tests: []string{"TestAnObserverLeavesAStreamThatIsSilent"},
	},
	{
		takesOut: "the watch on the entry ahead counts only for what came after that entry was seen",
		edits: []edit{
			{"queue.predecessor.goneBy", "ev.Kv.ModRevision > p.at", "ev.Kv.ModRevision > p.at+1000"},
		},
		tests: []string{"TestInALongQueueTheWatchOnTheOneAheadIsKept"},
	},
	{
		takesOut: "a view of deletions alone is closed when the entry ahead is not known",
		edits: []edit{
			{"queue.(*Queue).Enter", "q.closeStale()\nerr = q.RewriteFor(ctx, e, w) // its place", "err = q.RewriteFor(ctx, e, w) // its place"},
		},
		tests: []string{"TestAViewIsRightForKeysThatWereThereBefore"},
	},
	{
		takesOut: "a watch that was compacted is cancelled in etcd too (E13)",
		edits: []edit{
			{"watch.(*stream).hear", "if resp.CompactRevision != 0 {", "if false {"},
		},
		tests: []string{"TestACompactedWatchIsCancelledInEtcdToo"},
	},
	{
		takesOut: "a watch by the client that is given up is cancelled when it has been created (E13)",
		edits: []edit{
			{"queue.(*watching).openByClient", "o.givenUp.Add(1) > mostGivenUp", "o.givenUp.Add(1) > 0"},
		},
		tests: []string{"TestWatchesThatAreGivenUpAreNotLeftInEtcd"},
	},
	{
		takesOut: "an observer misses no change because a stream breaks",
		edits: []edit{
			{"queue.following", "resumes: true", "resumes: false"},
		},
		tests: []string{"TestNoChangeIsMissedBecauseAStreamBreaks"},
	},
	{
		takesOut: "few streams of watches that were left are kept (R8)",
		edits: []edit{
			{"watch.(*stream).retire", "len(st.of.retired) > mostRetired", "false"},
		},
		tests: []string{"TestStreamsThatWereLeftAreFew"},
	},
	{
		takesOut: "the streams of watches require a leader (A22)",
		edits: []edit{
			{"watch.newStream", "clientv3.WithRequireLeader(of.life)", "of.life"},
		},
		tests: []string{"TestAStreamRequiresALeader"},
	},
	{
		takesOut: "a watch that is not answered sends the next ones to another stream",
		edits: []edit{
			{"watch.(*Watcher).open", "w.MoveOn()", "_ = w"},
		},
		tests: []string{"TestAWatchThatIsNotAnsweredSendsTheNextOnesElsewhere"},
	},
	{
		takesOut: "a watch whose reader is too slow ends, instead of leaving something out",
		edits: []edit{
			{"watch.(*stream).hear", "len(resp.Events) > 0 && !w.put(resp)", "len(resp.Events) > 0 && !w.put(resp) && false"},
		},
		tests: []string{"TestASlowReaderLosesItsWatchAndNobodyElse"},
	},
	{
		takesOut: "a server that answers in any order gets one watch request at a time",
		edits: []edit{
			{"watch.(*stream).next", "st.obeys && len(st.asked) < window", "len(st.asked) < window"},
		},
		tests: []string{"TestAServerThatPicksTheIDsIsAskedForOneAtATime"},
	},
	{
		takesOut: "a stream whose token ran out is replaced (E1)",
		edits: []edit{
			{"watch.(*stream).created", "if stale(resp.CancelReason) {", "if false {"},
		},
		tests: []string{"TestAStreamWhoseTokenRanOutIsReplaced"},
	},
	{
		takesOut: "the sessions of a client share their streams (R8)",
		edits: []edit{
			{"perclient.(*shared).join", "e := s.all[id]", "e := s.all[new(byte)]"},
		},
		tests: []string{"TestTwoHundredSessionsGoByAFewStreams"},
	},
	{
		takesOut: "few streams of renewals that hang are kept (R8)",
		edits: []edit{
			{"perclient.(*Renewals).replace", "len(r.hanging) == mostHanging", "false"},
		},
		tests: []string{"TestStreamsStayFewWhileEtcdHangs"},
	},
	{
		takesOut: "short leases do not end the renewals of long ones",
		edits: []edit{
			{"perclient.(*stream).late", "time.Since(q.began) < q.longestWait", "time.Since(q.began) < 0"},
		},
		tests: []string{"TestSessionsOfShortLeasesDoNotEndTheLongLeasesOfOthers"},
	},
	{
		takesOut: "a renewal that was given up says nothing of its lease",
		edits: []edit{
			{"perclient.(*stream).next", "q.err = context.Canceled", "q.err = nil"},
		},
		tests: []string{"TestARenewalThatWasGivenUpBeforeItWasSentSaysNothingOfTheLease"},
	},
	{
		takesOut: "a lease that breaks the stream is renewed alone (R8)",
		edits: []edit{
			{"perclient.(*stream).end", "blamed := len(st.sent) > 0 && answer.Final(err)", "blamed := len(st.sent) > 0 && answer.Final(err) && false"},
		},
		tests: []string{"TestALeaseThatBreaksTheStreamIsRenewedAlone"},
	},
	{
		takesOut: "an answer is not taken for the one to a later renewal (R8)",
		edits: []edit{
			{"perclient.(*Renewals).ask", "earlier = r.current.asked[id]", "_ = id"},
		},
		tests: []string{"TestAnAnswerBelongsToItsOwnRenewal"},
	},
}
