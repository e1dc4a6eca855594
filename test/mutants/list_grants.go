package main

// grantMutations are about the proof of a grant and the order of the queue.
var grantMutations = []mutation{
	{
		takesOut: "the own key is looked at before a grant, in a long queue (A6)",
		edits: []edit{
			{"queue.(*line).lookAhead", "if len(resp.Kvs) == 0 || string(resp.Kvs[0].Key) != e.Key || !e.standsIn(resp.Kvs[0]) {\nreturn predecessor{}, lockerr.ErrEvicted\n}\nahead := entriesOf(l.from, resp.Kvs[1:])", "ahead := entriesOf(l.from, resp.Kvs[min(1, len(resp.Kvs)):])"},
		},
		tests: []string{"TestInALongQueueAWaiterWhoseKeyIsGoneIsNeverGranted"},
	},
	{
		takesOut: "the own key is looked for before a grant, in a view (B1)",
		edits: []edit{
			{"queue.(*rangeCache).shows", "if e.standsIn(c.entries[e.Key]) {", "if true {"},
		},
		tests: []string{"TestACandidateWhoseKeyIsGoneDoesNotWinTheCampaign"},
	},
	{
		takesOut: "a key without a lease counts like any other (A15)",
		edits: []edit{
			{"queue.(*snapshot).blocker", "all = append(all, kv)", "if kv.Lease != 0 {\nall = append(all, kv)\n}"},
		},
		tests: []string{"TestAStrayKeyIsWaitedForAndNamed", "FuzzForeignKeys"},
	},
	{
		takesOut: "an entry that finds one older key is not the first",
		edits: []edit{
			{"queue.(*Queue).peek", "e.first = ahead == nil", "e.first = len(older.Kvs) < 2"},
		},
		tests: []string{"TestALockIsHandedOverInOrder", "FuzzForeignKeys"},
	},
	{
		takesOut: "of the older ones, the youngest is waited for",
		edits: []edit{
			{"admission.Blocker", "all[i].Created > all[blocker].Created", "all[i].Created < all[blocker].Created"},
		},
		tests: []string{"TestInALongQueueTheOneAheadIsWatchedAndOneReadFollows", "TestTheYoungestBlocker"},
	},
	{
		takesOut: "the token is the revision at which the hold began (A18)",
		edits: []edit{
			{"queue.(*Queue).awaitInCache", "return c.rev, nil", "return e.CreateRevision, nil"},
		},
		tests: []string{"TestTokensGrowOverHandoversOfEveryKind"},
	},
	{
		takesOut: "TryLock writes only if the queue is empty (A13)",
		edits: []edit{
			{"lockmgr.line.write", "enter = l.Place().TryEnter", "_ = l.Place().TryEnter"},
			{"lockmgr.line.request", "once = l.Single.TryEnterOnce", "_ = l.Single.TryEnterOnce"},
		},
		tests: []string{"TestOfTwoTryLocksOnAFreeLockOneSucceeds"},
	},
	{
		takesOut: "names that nest are refused (A14)",
		edits: []edit{
			{"queue.(*line).nested", "if inner, ok := wire.Nested(l.name, string(kv.Key)); ok {", "if inner, ok := wire.Nested(l.name, string(kv.Key)); ok && false {"},
		},
		tests: []string{"TestNestedNamesClashAcrossSessions"},
	},
	{
		takesOut: "of two names that nest, the inner one is named",
		edits: []edit{
			{"wire.Nested", "i := strings.LastIndexByte(rest, '/')", "i := strings.IndexByte(rest, '/')"},
		},
		tests: []string{"TestAKeyOfAnInnerNameIsRecognised", "FuzzNames"},
	},
	{
		takesOut: "the queue is told in the order of its revisions",
		edits: []edit{
			{"queue.Contenders", "cmp.Compare(a.CreateRevision, b.CreateRevision)", "cmp.Compare(b.CreateRevision, a.CreateRevision)"},
		},
		tests: []string{"TestTheQueueTellsWhoHoldsAndWhoWaitsInOrder"},
	},
	{
		takesOut: "of several candidates with one value the youngest is preferred",
		edits: []edit{
			{"queue.(*line).List", "clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))", "clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))"},
		},
		tests: []string{"TestATransferIsToTheYoungestCandidateOfThatValue"},
	},
	{
		takesOut: "the oldest candidate leads",
		edits: []edit{
			{"queue.(*snapshot).first", "kv.CreateRevision < first.CreateRevision", "kv.CreateRevision > first.CreateRevision"},
		},
		tests: []string{"TestFollowTellsEveryChangeOfWhoIsFirstWithItsRevision"},
	},
	{
		takesOut: "a candidate that a leader has named comes before one of a higher priority",
		edits: []edit{
			{"admission.(*Entry).before", "cmp.Compare(e.named(), o.named()), ", ""},
		},
		tests: []string{"TestTheOrderOfCandidates", "TestTheOldestCandidateLeadsUnlessAnotherIsPreferred"},
	},
	{
		takesOut: "of several successor keys the oldest counts",
		edits: []edit{
			{"admission.(*Entry).NamedBy", "successorKey < e.Successor", "successorKey > e.Successor"},
		},
		tests: []string{"TestTheOrderOfCandidates"},
	},
	{
		takesOut: "of those who wait the highest priority leads next",
		edits: []edit{
			{"admission.(*Entry).before", "cmp.Compare(o.Priority, e.Priority)", "0"},
		},
		tests: []string{"TestTheOrderOfCandidates", "TestOfThoseWhoWaitTheHighestPriorityLeadsNext"},
	},
	{
		takesOut: "a candidate leads when its turn comes, and steps behind none of its equals",
		edits: []edit{
			{"admission.MayLead", "o.before(&oldest) < 0", "o.before(&oldest) <= 0 && o.Created != oldest.Created"},
		},
		tests: []string{"TestTheOldestCandidateLeadsUnlessAnotherIsPreferred"},
	},
	{
		takesOut: "a priority does not disturb a leader",
		edits: []edit{
			{"admission.Order", "slices.SortStableFunc(order[1:],", "slices.SortStableFunc(order,"},
		},
		tests: []string{"TestTheOrderOfCandidates", "TestTheNextInOrderLeads"},
	},
	{
		takesOut: "a leader is not preempted by an equal",
		edits: []edit{
			{"admission.Preempts", "challenger.Priority > leader.Priority", "challenger.Priority >= leader.Priority"},
		},
		tests: []string{"TestWhichCandidatePreemptsALeader"},
	},
	{
		takesOut: "a candidate takes over only if it has asked for that",
		edits: []edit{
			{"admission.Preempts", "challenger.Takeover && ", ""},
		},
		tests: []string{"TestWhichCandidatePreemptsALeader"},
	},
	{
		takesOut: "a leader that was named by another one is not preempted",
		edits: []edit{
			{"admission.Preempts", "leader.Successor == 0 && ", ""},
			{"queue.(*Queue).AwaitChallenger", "if leader.Successor != 0 {", "if false {"},
		},
		tests: []string{"TestWhichCandidatePreemptsALeader", "TestALeaderByTransferMakesWayForNobody"},
	},
	{
		takesOut: "a candidate that finds a key written again reads the successor keys (E3)",
		edits: []edit{
			{"queue.(*Queue).MayLead", "if q.named || s.rewritten() {", "if q.named {"},
		},
		tests: []string{"TestAForeignCandidateThatIsNamedLeadsOnce", "TestATransferMeetsAKeyThatIsWrittenAgain"},
	},
	{
		takesOut: "a successor key goes with its leader (E3)",
		edits: []edit{
			{"queue.(*shared).leaveNamed", "e.touched.Load() || was.ModRevision > e.modRevision.Load()", "false"},
		},
		tests: []string{"TestAMarkGoesWithItsLeader"},
	},
	{
		takesOut: "a write that arrives late does not undo a later one",
		edits: []edit{
			{"queue.(*shared).RewriteFor", `clientv3.Compare(clientv3.ModRevision(e.Key), "=", last)`, `clientv3.Compare(clientv3.ModRevision(e.Key), ">", last*0)`},
		},
		tests: []string{"TestALeadersProclamationIsNotOvertakenByAnOlderOne"},
	},
	{
		takesOut: "a delete is guarded by the CreateRevision (A8)",
		edits: []edit{
			{"etcdkv.(*Compact).cmp", "return Created(c.From, c.End, c.Created)", `if c.Delete { return clientv3.Compare(clientv3.CreateRevision(c.From), ">", 0) }; return Created(c.From, c.End, c.Created)`},
		},
		tests: []string{"TestLeavingIsGuardedByTheRevision"},
	},
	{
		takesOut: "a deletion that comes late spares a key that was taken over since (R2)",
		edits: []edit{
			{"queue.(*Queues).Sweep", `clientv3.Compare(clientv3.ModRevision(k.Key), "=", own[0].ModRevision)`, "created(k.Key, own[0].CreateRevision)"},
		},
		tests: []string{"TestALateDeletionSparesAKeyThatWasTakenOverSince"},
	},
}
