package main

// sharedMutations are about holds that several sessions can have at a time.
var sharedMutations = []mutation{
	{
		takesOut: "a reader waits for the writers ahead of it",
		edits: []edit{
			{"admission.(*Entry).admitsReader", "default:\nreturn false", "default:\nreturn true"},
		},
		tests: []string{"TestReadersHoldTogetherAndWritersAlone", "TestTheYoungestBlocker", "TestQueuesOfAllModes"},
	},
	{
		takesOut: "no more permits are granted than there are",
		edits: []edit{
			{"admission.(*Entry).fits", "return countedOnly && wanted <= int64(limit), disagrees", "return countedOnly, disagrees"},
		},
		tests: []string{"TestPermitsAreGivenAllAtOnceOrNotAtAll", "TestTheYoungestBlocker", "TestQueuesOfAllModes"},
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
			{"admission.(*Entry).admitsReader", "return reader.Created < e.bound()", "return true"},
		},
		tests: []string{"TestAnUpgradeAndTheWritersAndReadersInLine", "TestAnUpgradeWaitsForTheDowngradeBeforeIt", "TestQueuesOfAllModes"},
	},
	{
		takesOut: "an upgrade waits for all other readers",
		edits: []edit{
			{"admission.(*Entry).blockedBy", "return o.Created < e.bound() && o.Created != e.Created", "return false"},
		},
		tests: []string{"TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft"},
	},
	{
		takesOut: "of two upgrades one fails (D5)",
		edits: []edit{
			{"admission.NextUpgradeStep", "return AnnounceIntent, None, ErrUpgrading", "continue"},
		},
		tests: []string{"TestOfUpgradesAtTheSameInstantOneGoesOn"},
	},
	{
		takesOut: "of two upgrades of one session one fails (D5)",
		edits: []edit{
			{"local.(*Table).StartUpgrade", "case s.upgrading != nil:\nreturn nil, nil, lockerr.ErrUpgradeConflict", ""},
		},
		tests: []string{"TestOfTwoUpgradesOneIsToldAtOnce"},
	},
	{
		takesOut: "the first writer in line is the bound of an upgrade",
		edits: []edit{
			{"admission.NextUpgradeStep", "if own.Bound > 0 || writer == None {", "if true {"},
		},
		tests: []string{"TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft"},
	},
	{
		takesOut: "the bound of an upgrade separates the readers that it waits for from those that wait for it",
		edits: []edit{
			{"admission.(*Entry).bound", "if e.Bound > 0 {", "if false {"},
		},
		tests: []string{"TestTheYoungestBlocker", "TestQueuesOfAllModes"},
	},
	{
		takesOut: "the first writer in line is the bound, and not a later one",
		edits: []edit{
			{"admission.NextUpgradeStep", "o.Created < all[writer].Created", "o.Created > all[writer].Created"},
		},
		tests: []string{"TestTheStepsOfAnUpgrade"},
	},
	{
		takesOut: "an intent that has a bound stands, though its last write is younger",
		edits: []edit{
			{"admission.NextUpgradeStep", "(o.Bound > 0 || o.Modified < own.Modified)", "o.Modified < own.Modified"},
		},
		tests: []string{"TestTheStepsOfAnUpgrade"},
	},
	{
		takesOut: "an upgrade looks at younger entries too",
		edits: []edit{
			{"admission.BlockedByYounger", "return mode == wire.Upgrading", "return false"},
		},
		tests: []string{"TestWhatDoesNotMatter", "TestTheLineupOfALongQueueIsShort"},
	},
	{
		takesOut: "whoever leaves may let permits in",
		edits: []edit{
			{"admission.AnyMayAdmit", "return mode == wire.Counted", "return false"},
		},
		tests: []string{"TestWhatDoesNotMatter"},
	},
	{
		takesOut: "the oldest entry is not in the way of a reader",
		edits: []edit{
			{"admission.BlockedByEachOlder", "return mode == wire.Exclusive ||", "return mode == wire.Exclusive || mode == wire.Shared ||"},
		},
		tests: []string{"TestWhatDoesNotMatter"},
	},
	{
		takesOut: "a reader is judged by the values of others",
		edits: []edit{
			{"admission.ByAgeAlone", "return mode == wire.Exclusive", "return mode == wire.Exclusive || mode == wire.Shared"},
		},
		tests: []string{"TestWhatDoesNotMatter"},
	},
	{
		takesOut: "in a listing an entry that waits for all before it stands for them",
		edits: []edit{
			{"admission.Lineup", "if o.Mode == wire.Exclusive || o.Mode == wire.Counted && len(blockers[j]) > 0 {", "if false {"},
		},
		tests: []string{"TestTheLineupOfALongQueueIsShort"},
	},
	{
		takesOut: "in a listing a reader does not stand for those before it",
		edits: []edit{
			{"admission.Lineup", "if o.Mode == wire.Exclusive || o.Mode == wire.Counted && len(blockers[j]) > 0 {", "if true {"},
		},
		tests: []string{"TestTheLineupOfALongQueueIsShort", "TestQueuesOfAllModes"},
	},
	{
		takesOut: "the smallest limit counts",
		edits: []edit{
			{"admission.(*Entry).fits", "limit = min(limit, o.Limit)", "limit = o.Limit"},
		},
		tests: []string{"TestTheYoungestBlocker"},
	},
	{
		takesOut: "readers are not joined during an upgrade",
		edits: []edit{
			{"admission.OnlyReaders", "o.Mode != wire.Shared", "o.Mode != wire.Shared && o.Mode != wire.Upgrading"},
		},
		tests: []string{"TestAnUpgradeDoesNotStarveBehindReaders"},
	},
	{
		takesOut: "the mark of an upgrade is taken back",
		edits: []edit{
			{"lockmgr.(*Hold).upgrade", "h.rewriteShared()", ""},
		},
		tests: []string{"TestACancelledUpgradeLeavesTheReadLock"},
	},
	{
		takesOut: "an upgrade waits until the downgrade before it is written",
		edits: []edit{
			{"lockmgr.(*Hold).awaitUpgrade", "if u.Written != nil {", "if false {"},
		},
		tests: []string{"TestAnUpgradeWaitsForTheDowngradeBeforeIt"},
	},
	{
		takesOut: "an upgrade goes by a mark that stands",
		edits: []edit{
			{"queue.(*Entry).asRuled", "if mine.Mode != mode {", "if false {"},
		},
		tests: []string{"TestWhatEndsAnUpgrade", "TestAnEntryThatWasOverwritten"},
	},
	{
		takesOut: "a writer that was a reader has a larger token",
		edits: []edit{
			{"local.(*Table).Upgraded", "t.token = rev\nif !u", "if !u"},
		},
		tests: []string{"TestAWritersTokenIsLargerThanAllBefore"},
	},
	{
		takesOut: "readers ask again after a slice whether a writer waits",
		edits: []edit{
			{"local.(*Ownership).share", "t.clock()-t.asked >= w.Terms.Slice", "false"},
		},
		tests: []string{"TestAWriterDoesNotStarveBehindReaders"},
	},
	{
		takesOut: "the readers of a session share one key",
		edits: []edit{
			{"lockmgr.line.serve", "first.Mode == wire.Shared && l.shareAgain(ls)", "false"},
		},
		tests: []string{"TestReadersWithoutEndCostOneReadInASlice"},
	},
	{
		takesOut: "a downgrade at the time of a loss ends",
		edits: []edit{
			{"local.(*Ownership).detachNow", "close(t.detach)", ""},
		},
		tests: []string{"TestADowngradeAtTheTimeOfALossEnds"},
	},
	{
		takesOut: "a downgrade without a watch goes on",
		edits: []edit{
			{"local.(*Table).Finish", "t.detached() || ", ""},
		},
		tests: []string{"TestADowngradeWithoutAWatch"},
	},
	{
		takesOut: "a detached queue leaves its key to the downgraded hold",
		edits: []edit{
			{"local.(*Ownership).detached", "l.leaveSlots()", ""},
		},
		tests: []string{"TestADowngradeOfAHoldThatLinedUpByItself"},
	},
	{
		takesOut: "permits that are waited for count as well",
		edits: []edit{
			{"admission.(*Entry).fits", "wanted += int64(o.Permits)", "if o.Permits < limit {\nwanted += int64(o.Permits)\n}"},
		},
		tests: []string{"TestACrowdForPermits"},
	},
	{
		takesOut: "an entry is not blocked by a later one",
		edits: []edit{
			{"admission.(*Entry).blockedBy", "older := o.Created < e.Created", "older := o.Created != e.Created"},
			{"admission.(*Entry).fits", "case o.Created >= e.Created:", "case o.Created == e.Created:"},
		},
		tests: []string{"TestALargeRequestDoesNotStarveBehindSmallOnes", "TestTheYoungestBlocker", "TestQueuesOfAllModes"},
	},
	{
		takesOut: "a try that is refused names the holder",
		edits: []edit{
			{"queue.(*line).refusedBy", "if admission.BlockedByEachOlder(rule.mode()) && holds || same(c.KeyValue, blocker) {", "if same(c.KeyValue, blocker) {"},
		},
		tests: []string{"TestATryLockThatIsRefusedNamesTheHolderWithoutAFurtherRequest"},
	},
	{
		takesOut: "two limits are told apart",
		edits: []edit{
			{"admission.(*Entry).fits", "disagrees = &LimitError{Theirs: o.Limit, Ours: e.Limit}", "disagrees = nil"},
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
		takesOut: "a late try of SetLimit replaces no order",
		edits: []edit{
			{"etcdlock.(*Semaphore).putOrder", `clientv3.Compare(clientv3.ModRevision(key), "=", before)`, `clientv3.Compare(clientv3.ModRevision(key), ">", before*0-1)`},
		},
		tests: []string{"TestALateTryOfAChangeOfTheLimitLeavesNoEntryBehind", "TestALateTryToTakeALimitBackSparesALaterOne"},
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
			{"admission.(*Entry).fits", "if disagrees == nil && e.Permits > e.Limit {", "if false {"},
		},
		tests: []string{"TestTheLimitIsLoweredWhileInUse"},
	},
	{
		takesOut: "no reader is granted past an entry of a name inside (A14)",
		edits: []edit{
			{"admission.(*Entry).blockedBy", "case older && o.Nested:", "case older && o.Nested && false:"},
		},
		tests: []string{"TestNestedNamesOfSharedLocks"},
	},
	{
		takesOut: "a key that shares does not become another kind",
		edits: []edit{
			{"admission.Becomes", "return was.Mode == wire.Exclusive ||", "return true || was.Mode == wire.Exclusive ||"},
		},
		tests: []string{"TestASuccessorWantsAnotherKindOfHold", "TestWhatAnEntryMayBecome"},
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
			{"local.(*Waiter).reenter", "case w.Reentry < 1:", "case w.Reentry < 0:"},
			{"local.(*Waiter).reenter", "case h.holder.holds >= w.Reentry:", "case w.Reentry > 0 && h.holder.holds >= w.Reentry:"},
		},
		tests: []string{"TestUnderItsOwnContextEveryKindIsADeadlock", "TestTwoWorkersUnderOneHoldDoNotBothHold"},
	},
	{
		takesOut: "a call does not wait for what its own context holds by another session",
		edits: []edit{
			{"local.(*Carried).elsewhere", "if l.table != m &&", "if false && l.table != m &&"},
		},
		tests: []string{"TestUnderTheContextOfAnotherSessionsHoldACallIsADeadlock"},
	},
	{
		takesOut: "a context that is made after the end of its hold has the cause of this end",
		edits: []edit{
			{"local.(*Hold).Context", "life.Cancel(h.err)", "life = &h.owned.life"},
		},
		tests: []string{"TestAContextThatIsAskedForAfterTheEndTellsTheHoldsOwnCause"},
	},
	{
		takesOut: "permits within others are no more than these",
		edits: []edit{
			{"local.(*Ownership).covers", "t.mode() == wire.Counted && w.Permits <= int(t.permits)", "t.mode() == wire.Counted"},
		},
		tests: []string{"TestReentryIsRefusedBeyondWhatIsHeld", "TestPermitsAreAPartOfThoseTheContextCarries"},
	},
	{
		takesOut: "an upgrade does not wait for what its own context carries",
		edits: []edit{
			{"lockmgr.(*Hold).Upgrade", "Besides(&h.Hold); err != nil {", "Besides(&h.Hold); err != nil && false {"},
		},
		tests: []string{"TestAnUpgradeUnderTheContextOfAnotherReadLockIsADeadlock"},
	},
}
