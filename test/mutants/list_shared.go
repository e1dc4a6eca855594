package main

// sharedMutations are about holds that several sessions can have at a time.
var sharedMutations = []mutation{
	{
		takesOut: "a reader waits for the writers ahead of it",
		edits: []edit{
			{"queue.Shared", "!letsRead(o, own.CreateRevision)", "!letsRead(o, own.CreateRevision) && false"},
		},
		tests: []string{"TestReadersHoldTogetherAndWritersAlone"},
	},
	{
		takesOut: "no more permits are granted than there are",
		edits: []edit{
			{"queue.permitsBlocker", "case alone || wanted > limit:", "case alone:"},
		},
		tests: []string{"TestPermitsAreGivenAllAtOnceOrNotAtAll"},
	},
	{
		takesOut: "a semaphore asks its rule when it has heard of another limit",
		edits: []edit{
			{"queue.(*Queue).TryEnter", "if err := q.never(w); err != nil", "if err := q.never(w); false && err != nil"},
		},
		tests: []string{"TestMoreThanASmallerLimitIsNeverGrantedWhoeverIsThere"},
	},
	{
		takesOut: "an entry marked as upgrading is waited for (D5)",
		edits: []edit{
			{"queue.letsRead", "return createRevision < boundOf(older, h)", "return true"},
		},
		tests: []string{"TestAnUpgradeAndTheWritersAndReadersInLine", "TestAnUpgradeWaitsForTheDowngradeBeforeIt"},
	},
	{
		takesOut: "an upgrade waits for all other readers",
		edits: []edit{
			{"queue.sole", "if o.CreateRevision < bound {", "if o.CreateRevision < bound && false {"},
		},
		tests: []string{"TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft"},
	},
	{
		takesOut: "of two upgrades one fails (D5)",
		edits: []edit{
			{"queue.(*Entry).marked", "return m, ErrUpgrading", "continue"},
		},
		tests: []string{"TestOfUpgradesAtTheSameInstantOneGoesOn"},
	},
	{
		takesOut: "of two upgrades of one session one fails (D5)",
		edits: []edit{
			{"etcdlock.(*hold).startUpgrade", "case t.upgrading != nil:\nreturn nil, nil, ErrUpgradeConflict", ""},
		},
		tests: []string{"TestOfTwoUpgradesOneIsToldAtOnce"},
	},
	{
		takesOut: "the first writer in line is the bound of an upgrade",
		edits: []edit{
			{"queue.(*Entry).marked", "m.done = mine.Bound > 0 || m.writer == nil", "m.done = true"},
		},
		tests: []string{"TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft"},
	},
	{
		takesOut: "readers are not joined during an upgrade",
		edits: []edit{
			{"queue.(*Queue).NoneWaits", "none = none && (mode == wire.Shared ||", "none = none && (mode == wire.Shared || mode == wire.Upgrading ||"},
		},
		tests: []string{"TestAnUpgradeDoesNotStarveBehindReaders"},
	},
	{
		takesOut: "the mark of an upgrade is taken back",
		edits: []edit{
			{"etcdlock.(*upgrade).run", "t.rewriteShared(q, t.restate(wire.Holder{Mode: wire.Shared}))", ""},
		},
		tests: []string{"TestACancelledUpgradeLeavesTheReadLock"},
	},
	{
		takesOut: "an upgrade waits until the downgrade before it is written",
		edits: []edit{
			{"etcdlock.(*upgrade).wait", "if t.shared != nil {", "if false {"},
		},
		tests: []string{"TestAnUpgradeWaitsForTheDowngradeBeforeIt"},
	},
	{
		takesOut: "an upgrade goes by a mark that stands",
		edits: []edit{
			{"queue.sole", "if wants.Mode != wire.Upgrading {", "if false {"},
		},
		tests: []string{"TestWhatEndsAnUpgrade"},
	},
	{
		takesOut: "a writer that was a reader has a larger token",
		edits: []edit{
			{"etcdlock.(*upgrade).granted", "t.token = rev\nif !u", "if !u"},
		},
		tests: []string{"TestAWritersTokenIsLargerThanAllBefore"},
	},
	{
		takesOut: "readers ask again after a slice whether a writer waits",
		edits: []edit{
			{"etcdlock.(*tenure).share", "t.line.session.cfg.clock()-t.asked >= w.terms.slice", "false"},
		},
		tests: []string{"TestAWriterDoesNotStarveBehindReaders"},
	},
	{
		takesOut: "the readers of a session share one key",
		edits: []edit{
			{"etcdlock.(*line).serve", "first.mode == wire.Shared && l.shareAgain(ls)", "false"},
		},
		tests: []string{"TestReadersWithoutEndCostOneReadInASlice"},
	},
	{
		takesOut: "a downgrade at the time of a loss ends",
		edits: []edit{
			{"etcdlock.(*hold).downgrade", "t.becomeShared(), t.settled.Done()", "t.becomeShared(), make(<-chan struct{})"},
		},
		tests: []string{"TestADowngradeAtTheTimeOfALossEnds"},
	},
	{
		takesOut: "a downgrade without a watch goes on",
		edits: []edit{
			{"etcdlock.(*line).watch", "<-t.stay.Context().Done()\nif t.detached() {\nreturn\n}", "<-t.stay.Context().Done()"},
		},
		tests: []string{"TestADowngradeWithoutAWatch"},
	},
	{
		takesOut: "a detached queue leaves its key to the downgraded hold",
		edits: []edit{
			{"etcdlock.(*tenure).detached", "l.slots = nil // it is the tenure's from now on", "_ = l.slots"},
		},
		tests: []string{"TestADowngradeOfAHoldThatLinedUpByItself"},
	},
	{
		takesOut: "permits that are waited for count as well",
		edits: []edit{
			{"queue.permitsBlocker", "wanted = sum(wanted, theirs.Permits)\n}\nswitch", "if theirs.Permits < limit {\nwanted = sum(wanted, theirs.Permits)\n}\n}\nswitch"},
		},
		tests: []string{"TestACrowdForPermits"},
	},
	{
		takesOut: "an entry is not blocked by a later one",
		edits: []edit{
			{"queue.permitsBlocker", "if o.CreateRevision > own.CreateRevision {", "if o.CreateRevision == own.CreateRevision {"},
		},
		tests: []string{"TestALargeRequestDoesNotStarveBehindSmallOnes"},
	},
	{
		takesOut: "a try that is refused names the holder",
		edits: []edit{
			{"queue.(*Queue).refusedBy", "if e.waitsForAll() && holds || same(c.KeyValue, blocker) {", "if same(c.KeyValue, blocker) {"},
		},
		tests: []string{"TestATryLockThatIsRefusedNamesTheHolderWithoutAFurtherRequest"},
	},
	{
		takesOut: "two limits are told apart",
		edits: []edit{
			{"queue.permitsBlocker", "return nil, &LimitError{Theirs: theirs.Limit, Ours: mine.Limit}", "continue"},
		},
		tests: []string{"TestTwoProcessesWithDifferentLimitsAreTold"},
	},
	{
		takesOut: "an entry is written by the order that stands",
		edits: []edit{
			{"queue.(*Side).asKnown", `return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.Key), "=", s.Known())}`, "return nil"},
		},
		tests: []string{"TestAnEntryThatIsOnItsWayWhenTheLimitChanges"},
	},
	{
		takesOut: "the last order for a limit stands",
		edits: []edit{
			{"queue.(*Queue).RestateAll", "If: []clientv3.Cmp{order}, ", ""},
		},
		tests: []string{"TestSeveralChangesOfTheLimitAtATime"},
	},
	{
		takesOut: "a request for more permits than a lowered limit ends",
		edits: []edit{
			{"queue.permitsBlocker", "case mine.Permits > mine.Limit:", "case mine.Permits > mine.Limit && false:"},
		},
		tests: []string{"TestTheLimitIsLoweredWhileInUse"},
	},
	{
		takesOut: "no reader is granted past an entry of a name inside (A14)",
		edits: []edit{
			{"queue.(*Entry).blocker", "if blocker == nil && err == nil {", "if false {"},
		},
		tests: []string{"TestNestedNamesOfSharedLocks"},
	},
	{
		takesOut: "a key that shares does not become another kind",
		edits: []edit{
			{"queue.Becomes", "return was.Mode == wire.Exclusive ||", "return true || was.Mode == wire.Exclusive ||"},
		},
		tests: []string{"TestASuccessorWantsAnotherKindOfHold"},
	},
	{
		takesOut: "a proposal is no reader's key",
		edits: []edit{
			{"wire.Wants", "case h.Since.IsZero(), h.Mode", "case h.Mode"},
		},
		tests: []string{"TestAllKindsOnOneName", "TestHostileValuesAreWaitedFor"},
	},
	{
		takesOut: "two workers under one hold do not both hold: re-entry is off by default",
		edits: []edit{
			{"etcdlock.(*waiter).reenter", "case w.terms.reentry < 1:", "case w.terms.reentry < 0:"},
			{"etcdlock.(*waiter).reenter", "case h.turn.holds >= w.terms.reentry:", "case w.terms.reentry > 0 && h.turn.holds >= w.terms.reentry:"},
		},
		tests: []string{"TestUnderItsOwnContextEveryKindIsADeadlock", "TestTwoWorkersUnderOneHoldDoNotBothHold"},
	},
	{
		takesOut: "a call does not wait for what its own context holds by another session",
		edits: []edit{
			{"etcdlock.(*carried).elsewhere", "if l.session != s &&", "if false && l.session != s &&"},
		},
		tests: []string{"TestUnderTheContextOfAnotherSessionsHoldACallIsADeadlock"},
	},
	{
		takesOut: "a context that is made after the end of its hold has the cause of this end",
		edits: []edit{
			{"etcdlock.(*hold).Context", "parent = context.WithoutCancel(parent)", "_ = context.WithoutCancel(parent)"},
		},
		tests: []string{"TestAContextThatIsAskedForAfterTheEndTellsTheHoldsOwnCause"},
	},
	{
		takesOut: "permits within others are no more than these",
		edits: []edit{
			{"etcdlock.(*tenure).covers", "t.mode == wire.Counted && w.permits <= t.permits", "t.mode == wire.Counted"},
		},
		tests: []string{"TestReentryIsRefusedBeyondWhatIsHeld", "TestPermitsAreAPartOfThoseTheContextCarries"},
	},
	{
		takesOut: "an upgrade does not wait for what its own context carries",
		edits: []edit{
			{"etcdlock.(*hold).upgrade", "other != nil {", "other != nil && false {"},
		},
		tests: []string{"TestAnUpgradeUnderTheContextOfAnotherReadLockIsADeadlock"},
	},
}
