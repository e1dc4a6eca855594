package main

// mutationsOfSharing are of the kinds that several can hold at a time.
var mutationsOfSharing = []mutation{
	{
		takesOut: "an entry marked as upgrading is waited for (D5)",
		edits:    []edit{{"internal/queue/rule.go", "return createRevision < boundOf(older, h)", "return true"}},
		in:       inRoot, tests: []string{"TestAnUpgradeAndTheWritersAndReadersInLine", "TestAnUpgradeWaitsForTheDowngradeBeforeIt"},
	},
	{
		takesOut: "an upgrade waits for all other readers",
		edits:    []edit{{"internal/queue/rule.go", "if o.CreateRevision < bound {", "if o.CreateRevision < bound && false {"}},
		in:       inRoot, tests: []string{"TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft"},
	},
	{
		takesOut: "of two upgrades one is told (D5)",
		edits:    []edit{{"internal/queue/upgrade.go", "return m, ErrUpgrading", "continue"}},
		in:       inRoot, tests: []string{"TestOfUpgradesAtTheSameInstantOneGoesOn"},
	},
	{
		takesOut: "of two upgrades of one session one is told (D5)",
		edits:    []edit{{"upgrade.go", "\tcase t.upgrading != nil:\n\t\treturn nil, nil, ErrUpgradeConflict\n", ""}},
		in:       inRoot, tests: []string{"TestOfTwoUpgradesOneIsToldAtOnce"},
	},
	{
		takesOut: "the first writer in line is the bound of an upgrade",
		edits:    []edit{{"internal/queue/upgrade.go", "m.done = mine.Bound > 0 || m.writer == nil", "m.done = true"}},
		in:       inRoot, tests: []string{"TestAnUpgradeIsGrantedWhenTheOtherReadersHaveLeft"},
	},
	{
		takesOut: "readers are not joined while somebody is becoming a writer",
		edits:    []edit{{"internal/queue/upgrade.go", "none = none && (mode == wire.Shared || ", "none = none && (mode == wire.Shared || mode == wire.Upgrading || "}},
		in:       inRoot, tests: []string{"TestAnUpgradeDoesNotStarveBehindReaders"},
	},
	{
		takesOut: "the mark of an upgrade is taken back",
		edits:    []edit{{"upgrade.go", "\tt.rewriteShared(q, t.restate(wire.Holder{Mode: wire.Shared}))\n", ""}},
		in:       inRoot, tests: []string{"TestACancelledUpgradeLeavesTheReadLock"},
	},
	{
		takesOut: "an upgrade waits until the downgrade before it is written",
		edits:    []edit{{"upgrade.go", "if t.shared != nil {", "if false {"}},
		in:       inRoot, tests: []string{"TestAnUpgradeWaitsForTheDowngradeBeforeIt"},
	},
	{
		takesOut: "an upgrade that Orphan ends leaves no mark",
		edits:    []edit{{"shutdown.go", "t.unmark(errOrphaned) || !t.open() {\n\t\t\t\tpending++", "!t.open() {\n\t\t\t\tpending++"}},
		in:       inRoot, tests: []string{"TestWhatEndsAnUpgrade"},
	},
	{
		takesOut: "what arrives much later is looked for once more (A4)",
		edits:    []edit{{"sweeper.go", "for _, late := range lateSweeps {", "for _, late := range lateSweeps[:0] {"}},
		in:       inRoot, tests: []string{"TestARequestThatArrivesAfterItWasLookedForLeavesNothing"},
	},
	{
		takesOut: "an upgrade goes by a mark that stands",
		edits:    []edit{{"internal/queue/rule.go", "if wants.Mode != wire.Upgrading {", "if false {"}},
		in:       inRoot, tests: []string{"TestWhatEndsAnUpgrade"},
	},
	{
		takesOut: "a writer who was a reader has a larger token",
		edits:    []edit{{"upgrade.go", "\tt.token = rev\n\tif !u", "\tif !u"}},
		in:       inRoot, tests: []string{"TestAWritersTokenIsLargerThanAllBefore"},
	},
	{
		takesOut: "readers ask again after a slice whether a writer waits",
		edits:    []edit{{"beside.go", "t.line.session.cfg.clock()-t.asked >= w.terms.slice", "false"}},
		in:       inRoot, tests: []string{"TestAWriterDoesNotStarveBehindReaders"},
	},
	{
		takesOut: "readers of a session share one key",
		edits:    []edit{{"serve.go", "first.mode == wire.Shared && l.shareAgain(ls)", "false"}},
		in:       inRoot, tests: []string{"TestReadersWithoutEndCostOneReadInASlice"},
	},
	{
		takesOut: "a downgrade at the time of a loss ends",
		edits:    []edit{{"upgrade.go", "t.becomeShared(), t.settled.wait()", "t.becomeShared(), make(<-chan struct{})"}},
		in:       inRoot, tests: []string{"TestADowngradeAtTheTimeOfALossEnds"},
	},
	{
		takesOut: "a downgrade without a watch goes on",
		edits:    []edit{{"tenure.go", "\t\t<-t.stay.context().Done()\n\t\tif t.detached() {\n\t\t\treturn\n\t\t}", "\t\t<-t.stay.context().Done()"}},
		in:       inRoot, tests: []string{"TestADowngradeWithoutAWatch"},
	},
	{
		takesOut: "a line of one's own leaves its key to who was downgraded",
		edits:    []edit{{"beside.go", "\t\tl.slots = nil // it is the tenure's from now on", "\t\t_ = l.slots"}},
		in:       inRoot, tests: []string{"TestADowngradeOfAHoldThatLinedUpByItself"},
	},
	{
		takesOut: "a large request that was given up is in nobody's way (A3)",
		edits:    []edit{{"line.go", "case next == nil || l.served != nil && !next.inherits(l.served):", "case next == nil:"}},
		in:       inRoot, tests: []string{"TestALargeRequestThatIsGivenUpLetsSmallOnesIn", "TestReadersBehindAWriterWhoGivesUpGoIn"},
	},
	{
		takesOut: "a try is refused for who waits, not for who asks (A13)",
		edits:    []edit{{"line.go", "if w.rule == nil || l.held() {", "if true {"}},
		in:       inRoot, tests: []string{"TestReadersWhoTryAtOnceAllGetIn", "TestThoseWhoTryAtOnceAllGetPermits"},
	},
	{
		takesOut: "a try does not wait (A13)",
		edits:    []edit{{"line.go", "if w := e.Value.(*waiter); w.try {", "if w := e.Value.(*waiter); w.try && false {"}},
		in:       inRoot, tests: []string{"TestReadersWhoTryAtOnceAllGetIn"},
	},
	{
		takesOut: "a kept key is given up for a reader of its session",
		edits:    []edit{{"line.go", "\t\tl.tenure.giveUpKept() // it is kept for who wants it alone\n", "\t\t_ = l\n"}},
		in:       inRoot, tests: []string{"TestAReaderDoesNotWaitForAKeyThatItsSessionKeeps"},
	},
	{
		takesOut: "permits that are waited for count, too",
		edits:    []edit{{"internal/queue/rule.go", "wanted = sum(wanted, theirs.Permits)\n\t}\n\tswitch", "if theirs.Permits < limit {\n\t\t\twanted = sum(wanted, theirs.Permits)\n\t\t}\n\t}\n\tswitch"}},
		in:       inRoot, tests: []string{"TestACrowdForPermits"},
	},
	{
		takesOut: "who comes later is in nobody's way",
		edits:    []edit{{"internal/queue/rule.go", "if o.CreateRevision > own.CreateRevision {", "if o.CreateRevision == own.CreateRevision {"}},
		in:       inRoot, tests: []string{"TestALargeRequestDoesNotStarveBehindSmallOnes"},
	},
	{
		takesOut: "a try that is refused names the holder",
		edits:    []edit{{"internal/queue/obstacle.go", "if e.waitsForAll() && holds || same(c.KeyValue, blocker) {", "if same(c.KeyValue, blocker) {"}},
		in:       inRoot, tests: []string{"TestATryLockThatIsRefusedNamesTheHolderWithoutAFurtherRequest"},
	},
	{
		takesOut: "two limits are told apart",
		edits:    []edit{{"internal/queue/rule.go", "return nil, &LimitError{Theirs: theirs.Limit, Ours: mine.Limit}", "continue"}},
		in:       inRoot, tests: []string{"TestTwoProcessesWithDifferentLimitsAreTold"},
	},
	{
		takesOut: "an entry is written by the order that stands",
		edits:    []edit{{"internal/queue/rule.go", "return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.Key), \"=\", s.Known())}", "return nil"}},
		in:       inRoot, tests: []string{"TestAnEntryThatIsOnItsWayWhenTheLimitChanges"},
	},
	{
		takesOut: "the last order for a limit stands",
		edits:    []edit{{"internal/queue/restate.go", "[]clientv3.Cmp{order}, each", "nil, each"}},
		in:       inRoot, tests: []string{"TestSeveralChangesOfTheLimitAtATime"},
	},
	{
		takesOut: "a request for more than a smaller limit ends",
		edits:    []edit{{"internal/queue/rule.go", "case mine.Permits > mine.Limit:", "case mine.Permits > mine.Limit && false:"}},
		in:       inRoot, tests: []string{"TestTheLimitIsLoweredWhileInUse"},
	},
	{
		takesOut: "nobody reads past an entry of a name inside (A14)",
		edits:    []edit{{"internal/queue/rule.go", "if blocker == nil && err == nil {", "if false {"}},
		in:       inRoot, tests: []string{"TestNestedNamesOfSharedLocks"},
	},
	{
		takesOut: "a key that shares does not become another kind",
		edits:    []edit{{"internal/queue/inherit.go", "return was.Mode == wire.Exclusive ||", "return true || was.Mode == wire.Exclusive ||"}},
		in:       inRoot, tests: []string{"TestASuccessorWantsAnotherKindOfHold"},
	},
	{
		takesOut: "a proposal is no reader's key",
		edits:    []edit{{"internal/wire/value.go", "case h.Since.IsZero(), h.Mode", "case h.Mode"}},
		in:       inRoot, tests: []string{"TestAllKindsOnOneName", "TestHostileValuesAreWaitedFor"},
	},
}
