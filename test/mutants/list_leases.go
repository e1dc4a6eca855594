package main

// leaseMutations are about leases, their deadlines and the ends of sessions.
var leaseMutations = []mutation{
	{
		takesOut: "a machine that wakes up looks at the clock within the margin",
		edits: []edit{
			{"lease.(*Lease).Slice", "(l.margin-l.cfg.Delay)/4", "time.Second"},
		},
		tests: []string{"TestAMachineThatSleptUntilShortlyBeforeItsDeadlineKnowsItWithinTheMargin"},
	},
	{
		takesOut: "after a sleep that its clock reports, a lease looks at the clock within a Slice",
		edits: []edit{
			{"lease.(*Lease).jumped", "l.deadline.Reset(in)", "_ = in"},
		},
		tests: []string{"TestAClockThatReportsItsJumpsEndsALeaseAtTheSameTime"},
	},
	{
		takesOut: "an eviction is certain only if etcd has answered that the lease lives",
		edits: []edit{
			{"lockmgr.(*Manager).whyGoneUntil", "case unanswered != nil:", "case unanswered != nil && false:"},
		},
		tests: []string{"TestALossSaysThatEtcdHasNotToldItsReason"},
	},
	{
		takesOut: "the deadline counts from the send time (C3, C4)",
		edits: []edit{
			{"lease.(*Config).countFrom", "if c.FromReceipt {", "if true {"},
		},
		tests: []string{"TestAHoldEndsByTheSendTimeOfTheLastAnsweredRenewal"},
	},
	{
		takesOut: "the TTL that deadlines are derived from has no lock-delay in it",
		edits: []edit{
			{"lease.(*Lease).TTL", "return l.granted - l.cfg.Delay", "return l.granted"},
		},
		tests: []string{"TestNothingThatReasonsWithTheTTLCountsTheLockDelay"},
	},
	{
		takesOut: "an answer that comes after the end extends nothing",
		edits: []edit{
			{"lease.(*Lease).extend", "if l.cfg.Clock() < l.validUntil && l.unrenewed == nil {", "if true {"},
		},
		tests: []string{"TestAnAnswerThatComesAfterTheEndIsTooLate"},
	},
	{
		takesOut: "a machine that slept looks at the clock before it says that it holds",
		edits: []edit{
			{"local.(*Hold).Err", "_ = h.owned.lease.Err() // ends the lease, and so the hold, if its time is over", ""},
		},
		tests: []string{"TestAMachineThatSleptPastItsDeadlineKnowsSoWhenItWakesUp"},
	},
	{
		takesOut: "nothing is handed over in memory without a look at the lease",
		edits: []edit{
			{"local.(*leases).look", "_ = l.Err()", "_ = l"},
			{"local.(*Table).Release", "_ = h.owned.lease.Err() // see Hold.Err", ""},
		},
		tests: []string{"TestNothingIsHandedOverOnAMachineThatHasSleptThroughTheDeadline"},
	},
	{
		takesOut: "a lease that was given up on purpose says so",
		edits: []edit{
			{"lease.(*Lease).expiry", "if l.unrenewed != nil {\nreturn lockerr.Lost(", "if false {\nreturn lockerr.Lost("},
		},
		tests: []string{"TestTheEndOfALeaseIsLoggedAsWhatItWas"},
	},
	{
		takesOut: "a lease that is to end is renewed no more",
		edits: []edit{
			{"lease.(*Lease).Keep", "if l.isUnrenewed() {", "if false {"},
		},
		tests: []string{"TestALeaseThatIsRenewedNoMoreEndsAtItsDeadline"},
	},
	{
		takesOut: "a lease that was given up is revoked however long etcd is away",
		edits: []edit{
			{"session.(*Session).revokeLater", "err := s.Insist(s.ctx, func(ctx context.Context) error { return l.Revoke(ctx) })", "err := s.revoke(s.ctx, l)"},
		},
		tests: []string{"TestASessionThatHasGivenUpRevokesItsLeaseAfterAnyOutage"},
	},
	{
		takesOut: "a Close under a context that has ended makes one attempt (R6)",
		edits: []edit{
			{"session.lastTry", "if ctx.Err() == nil {\nreturn ctx, func() {}", "if true {\nreturn ctx, func() {}"},
		},
		tests: []string{"TestACloseUnderAContextThatHasEndedReleasesEverything", "TestAnOrphanUnderAContextThatHasEndedLeavesTheLease"},
	},
	{
		takesOut: "no end of a session cuts the lock-delay short (R7)",
		edits: []edit{
			{"session.(*Session).revokeAll", "s.cfg.Delay > 0 &&", "s.cfg.Delay < 0 &&"},
		},
		tests: []string{"TestADedicatedSessionDoesNotCutTheLockDelayShort", "TestACloseAfterAnExpiryDoesNotCutTheDelayShort"},
	},
	{
		takesOut: "Close leaves the lock-delay also after an expiry that was not noticed yet",
		edits: []edit{
			{"session.(*Session).finish", "ended := last.Err()", "_, ended := last, error(nil)"},
		},
		tests: []string{"TestACloseAfterAnExpiryThatNobodyHasSeenDoesNotCutTheDelayShort"},
	},
	{
		takesOut: "an illegal change of state ends the session",
		edits: []edit{
			{"session.(*Session).enter", "s.Fail(err)", ""},
		},
		tests: []string{"TestAnIllegalChangeOfStateEndsTheSession"},
	},
	{
		takesOut: "an illegal change of the admission ends the session",
		edits: []edit{
			{"local.(*Table).admit", "m.cfg.Fail(err)", ""},
		},
		tests: []string{"TestAnIllegalChangeOfAdmissionPhaseDriverOrOwnershipEndsTheSession"},
	},
	{
		takesOut: "a lock manager is open again after the last drain has failed",
		edits: []edit{
			{"local.(*Table).BeginDrain", "m.gate.drains--; m.gate.drains == 0 &&", "m.gate.drains--; m.gate.drains == 0 && false &&"},
		},
		tests: []string{"TestTheAdmissionsOfALockManager"},
	},
	{
		takesOut: "after an illegal change of state every context ends at once",
		edits: []edit{
			{"session.(*Session).Fail", "s.cancel(how.cause)", ""},
		},
		tests: []string{"TestAnIllegalChangeOfStateEndsTheSession", "TestABugOfASessionEndsIt"},
	},
	{
		takesOut: "compat: a Close under a context that has ended makes no request",
		edits: []edit{
			{"session.(*Session).finish", "if !how.within {", "if true {"},
		},
		tests: []string{"TestTheContextOfASessionEndsItAndLeavesTheLease"},
	},
	{
		takesOut: "each lost lease is revoked at the end of the session",
		edits: []edit{
			{"session.(*Session).revokeAll", "slices.Clone(s.pendingRevokes)", "slices.Clone(s.pendingRevokes[max(len(s.pendingRevokes)-1, 0):])"},
		},
		tests: []string{"TestCloseRevokesEachLeaseThatWasLostBefore"},
	},
	{
		takesOut: "Orphan revokes a lease that was lost before",
		edits: []edit{
			{"session.(*Session).revokeAll", "l.ID() == how.leaves ||", "how.leaves != 0 ||"},
		},
		tests: []string{"TestOrphanRevokesTheLeaseThatWasLostBefore"},
	},
	{
		takesOut: "Close revokes the lease",
		edits: []edit{
			{"session.(*Session).revokeAll", "if err := s.revoke(ctx, l); err != nil {", "if err := error(nil); err != nil {"},
		},
		tests: []string{"TestCloseReleasesAllAndRevokesTheLeaseInOneRequest"},
	},
	{
		takesOut: "Orphan waits for what has to be cleared away",
		edits: []edit{
			{"local.(*Table).Pending", "!l.owned.open() && l.phase != idle {", "!l.owned.open() && l.phase != idle && false {"},
		},
		tests: []string{"TestOrphanLeavesNothingButWhatIsHeld"},
	},
	{
		takesOut: "Orphan waits for a release that began while it looked at other holds",
		edits: []edit{
			{"local.(*Table).CloseIf", "if ends == m.gate.ends {", "if true {"},
		},
		tests: []string{"TestADrainIsNotOverIfAHoldWasReleasedDuringItsLook"},
	},
	{
		takesOut: "a young hold is looked after when its lease ends",
		edits: []edit{
			{"lockmgr.(*Manager).Wait", "m.FinishLost()", ""},
		},
		tests: []string{"TestCloseDoesNotWaitForAYoungHold"},
	},
	{
		takesOut: "compat: a late try of Proclaim undoes no later one",
		edits: []edit{
			{"concurrency.(*Election).proclaimResumed", `, v3.Compare(v3.ModRevision(key), "=", last)`, ""},
		},
		tests: []string{"TestALateTryOfAProclaimUndoesNothing"},
	},
	{
		takesOut: "a try of a Grant asks for the lease that the one before asked for",
		edits: []edit{
			{"lease.Grant", "leaseid.Ask(ctx, id)", "leaseid.Ask(ctx, new(clientv3.LeaseID))"},
		},
		tests: []string{"TestAGrantThatIsTriedAgainLeavesNoOtherLease"},
	},
	{
		takesOut: "a lease that an earlier try was granted counts by what is left of it",
		edits: []edit{
			{"lease.granted", "cfg.countFrom(sent)-(ttl-left)", "cfg.countFrom(sent)"},
		},
		tests: []string{"TestALeaseThatAnEarlierTryWasGrantedIsTakenIfItIsTheOne"},
	},
	{
		takesOut: "what is acquired under a later lease is not the session's",
		edits: []edit{
			{"concurrency.(*Session).ownsHolds", "return s.inner.Lease() == s.id", "return true"},
		},
		tests: []string{"TestAGrantUnderALaterLeaseIsNotTaken"},
	},
	{
		takesOut: "a lock is judged by its lease, not by the name of its key (C2)",
		edits: []edit{
			{"concurrency.(*Mutex).acquire", "case err == nil && s.ownsHolds():", `case err == nil && s.ownsHolds() && got.Key() == fmt.Sprintf("%s/%x", m.name, s.id):`},
		},
		tests: []string{"TestALockIsHeldByWhateverKeyOfItsLease"},
	},
	{
		takesOut: "a leadership is judged by its lease, not by the name of its key (C1)",
		edits: []edit{
			{"concurrency.(*Election).Campaign", "case err == nil && s.ownsHolds():", `case err == nil && s.ownsHolds() && term.Key() == wire.Key(e.name, s.id):`},
		},
		tests: []string{"TestACandidateLeadsAfterItHasSteppedBehindAnother"},
	},
	{
		takesOut: "a smaller revision is another timeline",
		edits: []edit{
			{"timeline.Mark.before", "return h.Revision >= m.revision &&", "return true || h.Revision >= m.revision &&"},
		},
		tests: []string{"TestARollbackEndsEachHold", "TestObserversBeginAgainAfterARollback"},
	},
	{
		takesOut: "another cluster is another timeline",
		edits: []edit{
			{"timeline.Mark.before", "(h.ClusterId == m.cluster ||", "(true || h.ClusterId == m.cluster ||"},
		},
		tests: []string{"TestARestoreWithABumpedRevision"},
	},
	{
		takesOut: "a queue drops what it knows from an earlier timeline (R5)",
		edits: []edit{
			{"queue.(*Queue).renew", "if now == q.timeline {", "if true {"},
		},
		tests: []string{"TestAWaitAfterARollbackHasItsOwnWatch"},
	},
	{
		takesOut: "a watch that begins too early makes the session ask (R5)",
		edits: []edit{
			{"queue.(*follower).opens", "if w.doubtful || ", "if "},
		},
		tests: []string{"TestTheFirstWatchAfterARollbackShowsIt"},
	},
	{
		takesOut: "a limit from another timeline is read again",
		edits: []edit{
			{"etcdlock.(*limitOrder).revision", "case o.timeline != timeline:", "case false:"},
		},
		tests: []string{"TestALimitFromBeforeARollbackIsReadAgain"},
	},
	{
		takesOut: "a lease of another TTL is not gone on with (R3)",
		edits: []edit{
			{"session.(*Session).adoptFromFile", "l.Granted() != s.cfg.TTL+s.cfg.Delay", "false"},
		},
		tests: []string{"TestAnotherTTLOrLockDelayThanTheFormerProcessHadIsInForce"},
	},
	{
		takesOut: "a lease of another TTL is revoked until etcd has answered",
		edits: []edit{
			{"session.(*Session).giveUpFormer", "s.Insist(ctx, func(ctx context.Context) error { return l.Revoke(ctx) })", "l.Revoke(ctx)"},
		},
		tests: []string{"TestALeaseOfAnotherTTLIsRevokedUntilEtcdHasAnswered"},
	},
	{
		takesOut: "a refusal of a lease does not end the session's search for one",
		edits: []edit{
			{"session.(*Session).nextLease", "Persist: true", "Persist: false"},
		},
		tests: []string{"TestARefusedLeaseIsAskedForAgainAndLoggedOnce"},
	},
	{
		takesOut: "two processes never share a lease file",
		edits: []edit{
			{"leasefile.flock", "return false, nil", "return true, nil"},
		},
		tests: []string{"TestTwoProcessesNeverShareALeaseFile"},
	},
	{
		takesOut: "what was closed is not taken up again",
		edits: []edit{
			{"session.(*Session).finish", "s.presence.record(clientv3.NoLease)", ""},
		},
		tests: []string{"TestALeaseThatWasClosedIsNotTakenOver"},
	},
}
