package main

// grantMutations are about the proof of a grant and the order of the queue.
var grantMutations = []mutation{
	{
		takesOut: "the own key is looked at before a grant, in a crowd (A6)",
		edits: []edit{
			{"queue.(*Queue).lookAhead", "if len(resp.Kvs) == 0 || string(resp.Kvs[0].Key) != e.Key || !e.standsIn(resp.Kvs) {\nreturn 0, nil, lockerr.ErrEvicted\n}\nreturn resp.Header.Revision, youngest(resp.Kvs[1:]), nil", "return resp.Header.Revision, youngest(resp.Kvs[min(1, len(resp.Kvs)):]), nil"},
		},
		tests: []string{"TestInACrowdAWaiterWhoseKeyIsGoneIsNeverGranted"},
	},
	{
		takesOut: "the own key is looked for before a grant, in a view (B1)",
		edits: []edit{
			{"queue.(*Queue).shows", "if own := q.view.entries[e.Key]; own != nil && own.CreateRevision == e.CreateRevision {", "if true {"},
		},
		tests: []string{"TestACandidateWhoseKeyIsGoneDoesNotWinTheCampaign"},
	},
	{
		takesOut: "a key without a lease counts like any other (A15)",
		edits: []edit{
			{"queue.(*mirror).ahead", "if kv.CreateRevision < createRevision &&", "if kv.Lease != 0 && kv.CreateRevision < createRevision &&"},
		},
		tests: []string{"TestAStrayKeyIsWaitedForAndNamed", "FuzzForeignKeys"},
	},
	{
		takesOut: "an entry that finds one older key is not the first",
		edits: []edit{
			{"queue.(*Queue).peek", "e.first = e.ahead == nil", "e.first = e.older < 2"},
		},
		tests: []string{"TestALockIsHandedOverInOrder", "FuzzForeignKeys"},
	},
	{
		takesOut: "of the older ones, the youngest is waited for",
		edits: []edit{
			{"queue.youngest", "kv.CreateRevision > y.CreateRevision", "kv.CreateRevision < y.CreateRevision"},
		},
		tests: []string{"TestInACrowdTheOneAheadIsWatchedAndOneReadFollows"},
	},
	{
		takesOut: "the token is the revision at which the hold began (A18)",
		edits: []edit{
			{"queue.(*Queue).awaitInView", "return q.view.rev, nil", "return e.CreateRevision, nil"},
		},
		tests: []string{"TestTokensGrowOverHandoversOfEveryKind"},
	},
	{
		takesOut: "TryLock writes only if the queue is empty (A13)",
		edits: []edit{
			{"etcdlock.(*line).enter", "enter = l.queue.TryEnter", "_ = l.queue.TryEnter"},
			{"etcdlock.(*line).request", "once = l.single.TryEnterOnce", "_ = l.single.TryEnterOnce"},
		},
		tests: []string{"TestOfTwoTryLocksOnAFreeLockOneSucceeds"},
	},
	{
		takesOut: "names that nest are refused (A14)",
		edits: []edit{
			{"queue.(*Queue).nested", "if inner, ok := wire.Nested(q.name, string(kv.Key)); ok {", "if inner, ok := wire.Nested(q.name, string(kv.Key)); ok && false {"},
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
		takesOut: "of several candidates with one value the oldest is preferred",
		edits: []edit{
			{"queue.(*Queue).listOnce", "clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))", "clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))"},
		},
		tests: []string{"TestATransferIsToTheOldestCandidateOfThatValue"},
	},
	{
		takesOut: "the oldest candidate leads",
		edits: []edit{
			{"queue.(*mirror).first", "kv.CreateRevision < first.CreateRevision", "kv.CreateRevision > first.CreateRevision"},
		},
		tests: []string{"TestFollowTellsEveryChangeOfWhoIsFirstWithItsRevision"},
	},
	{
		takesOut: "a candidate that finds a key written again looks for marks (E3)",
		edits: []edit{
			{"queue.(*Queue).MayLead", "if q.sawMark || m.touched() {", "if q.sawMark {"},
		},
		tests: []string{"TestAForeignCandidateThatIsNamedLeadsOnce", "TestATransferMeetsAKeyThatIsWrittenAgain"},
	},
	{
		takesOut: "a mark goes with its leader (E3)",
		edits: []edit{
			{"queue.(*Queue).leaveMarked", "e.touched.Load() || was.ModRevision > e.modRevision.Load()", "false"},
		},
		tests: []string{"TestAMarkGoesWithItsLeader"},
	},
	{
		takesOut: "a write that arrives late does not undo a later one",
		edits: []edit{
			{"queue.(*Queue).RewriteFor", `clientv3.Compare(clientv3.ModRevision(e.Key), "=", last)`, `clientv3.Compare(clientv3.ModRevision(e.Key), ">", last*0)`},
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
