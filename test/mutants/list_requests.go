package main

// requestMutations are about requests to etcd: compact writes, batches, bounds, reused contexts.
var requestMutations = []mutation{
	{
		takesOut: "each try of a request has a bound: of the transactions of SetLimit, too",
		edits: []edit{
			{"queue.(*Queue).RestateAll", "func(ctx context.Context) (err error) {\nresp", "func(context.Context) (err error) {\nresp"},
		},
		tests: []string{"TestARequestThatHangsIsSentAgainSoon"},
	},
	{
		takesOut: "after a wrong assumption the watch is opened before the entry is written",
		edits: []edit{
			{"queue.(*Queue).Enter", "q.openAhead(ctx, w)", ""},
		},
		tests: []string{"TestAWrongGuessCostsOneRequest"},
	},
	{
		takesOut: "a view without an entry is closed",
		edits: []edit{
			{"queue.(*kept).closeEarly", "if k.cache != nil && k.cache.early {", "if false {"},
		},
		tests: []string{"TestAViewWithoutAnEntryIsClosed"},
	},
	{
		takesOut: "a queue is assumed to be empty soon or not at all",
		edits: []edit{
			{"queue.(*length).recentlyEmpty", "time.Since(n.emptied) < Resting", "!n.emptied.IsZero()"},
		},
		tests: []string{"TestAGuessIsMadeSoonOrNotAtAll"},
	},
	{
		takesOut: "the watch of a queue is closed when it was found empty many times in a row",
		edits: []edit{
			{"queue.(*length).isCalm", "n.empties >= calm", "false"},
		},
		tests: []string{"TestALockThatWasContendedIsLockedLikeAFreeOneLater"},
	},
	{
		takesOut: "another entry makes the watch of a queue needed again",
		edits: []edit{
			{"queue.(*length).found", "n.emptied, n.empties = time.Time{}, 0", "n.emptied = time.Time{}"},
		},
		tests: []string{"TestAContendedLockTakesTwoRequests"},
	},
	{
		takesOut: "the watch of a wait is kept for the next one, which is not optimistic",
		edits: []edit{
			{"queue.(*kept).Rest", "|| c.late", "|| true"},
		},
		tests: []string{"TestAContendedLockTakesTwoRequests"},
	},
	{
		takesOut: "only a queue that was empty is assumed to be empty",
		edits: []edit{
			{"queue.(*length).recentlyEmpty", "time.Since(n.emptied) < Resting", "true"},
		},
		tests: []string{"TestEveryPathTakesAsFewRequestsAsPromised"},
	},
	{
		takesOut: "a compact enter compares with the whole queue",
		edits: []edit{
			{"queue.(*Queue).ifEmpty", "&etcdkv.Compact{From: q.from, End: q.end,", "&etcdkv.Compact{From: q.key(*w),"},
		},
		tests: []string{"TestABatchInWhichSomeComparisonsFailIsSentAtLength"},
	},
	{
		takesOut: "a batch whose comparisons fail is sent again in the general form",
		edits: []edit{
			{"etcdkv.(*Writer).sendBatch", "if all != nil || err != nil {\nreturn all, err", "if all == nil {\nreturn make([]*clientv3.TxnResponse, len(batch)), context.Canceled\n} else if all != nil || err != nil {\nreturn all, err"},
		},
		tests: []string{"TestABatchInWhichSomeComparisonsFailIsSentAtLength"},
	},
	{
		takesOut: "the writes of a refused batch use all free slots",
		edits: []edit{
			{"etcdkv.(*Writer).sendApart", "for len(w.waiting) > 0 && len(w.inFlight) < w.config.Slots {", "for range 1 {"},
		},
		tests: []string{"TestABatchThatIsRefusedLateIsSentAgainAtOnce", "TestABatchThatIsRefusedLateUsesAllFreeSlots"},
	},
	{
		takesOut: "a deletion past the client's KV is guarded",
		edits: []edit{
			{"etcdkv.(*Writer).commit", "req.Compare[i], req.Success[i] = cmp.GetCompare(), c.request()", "req.Success[i] = c.request()\nif req.Compare = req.Compare[:0]; !c.Delete {\nreq.Compare = append(req.Compare, cmp.GetCompare())\n}"},
		},
		tests: []string{"TestCompactTransactionsAreTheSamePastTheClient"},
	},
	{
		takesOut: "a refused batch fails only the write that is to blame",
		edits: []edit{
			{"etcdkv.(*Writer).deliver", "if err != nil && answer.Final(err) {", "if err != nil && answer.Final(err) && false {"},
		},
		tests: []string{"TestARefusedBatchFailsOnlyTheOneThatIsToBlame"},
	},
	{
		takesOut: "writes of one name never share a batch",
		edits: []edit{
			{"etcdkv.(*Writer).nextBatch", "names[wr.Name] ||", ""},
		},
		tests: []string{"TestWritesOfOneNameNeverShareABatch"},
	},
	{
		takesOut: "a slow transaction frees its slot once",
		edits: []edit{
			{"etcdkv.(*slot).Fire", "if s.freed {", "if false {"},
		},
		tests: []string{"TestASlowTransactionFreesItsSlotOnce"},
	},
	{
		takesOut: "a batch that is too large is followed by smaller ones",
		edits: []edit{
			{"etcdkv.(*Writer).sendApart", "w.most = max(w.most/2, 1)", ""},
		},
		tests: []string{"TestABatchThatIsTooLargeIsFollowedBySmallerOnes"},
	},
	{
		takesOut: "requests end with the client",
		edits: []edit{
			{"etcdkv.(*Policy).pause", "if p.Client != nil {", "if p.Client != nil && false {"},
		},
		tests: []string{"TestTriesEndWithTheClient"},
	},
	{
		takesOut: "an error without a code is not etcd's last word",
		edits: []edit{
			{"answer.Final", "codes.Internal,\ncodes.Unknown:", "codes.Internal:"},
		},
		tests: []string{"TestAnErrorWithoutACodeIsAskedForAgain"},
	},
	{
		takesOut: "nothing of a request is left on a context that is used again",
		edits: []edit{
			{"sharedtimer.(*Pooled).Release", "reusable = c.stop() && reusable", "_ = c.stop"},
		},
		tests: []string{"TestAPooledContextIsReused"},
	},
	{
		takesOut: "a context that is kept for the next request does not keep its caller's",
		edits: []edit{
			{"sharedtimer.(*Pooled).Release", "c.stop = nil // it refers to the caller's context and all its values", ""},
		},
		tests: []string{"TestAPooledContextDoesNotKeepItsCaller"},
	},
	{
		takesOut: "contexts of a lease that has ended are let go",
		edits: []edit{
			{"sharedtimer.(*Pool).take", "p.drop()", ""},
		},
		tests: []string{"TestAPoolIsForOneCommonContext"},
	},
	{
		takesOut: "only clientv3's own KV is passed over",
		edits: []edit{
			{"etcdkv.plainKV", `isConn(field(field(remote, "kc"), "cc"), conn) &&`, "true &&"},
		},
		tests: []string{"TestOnlyClientv3sOwnKVIsPassedOver"},
	},
	{
		takesOut: "a KV with the options of another client is not passed over",
		edits: []edit{
			{"etcdkv.isSlice", "v.Kind() == reflect.Slice && v.Pointer() == of.Pointer()", "v.Kind() == reflect.Slice"},
		},
		tests: []string{"TestOnlyClientv3sOwnKVIsPassedOver"},
	},
	{
		takesOut: "past the KV a request has the client's options",
		edits: []edit{
			{"etcdkv.Direct", "with(options)", "with(nil)"},
		},
		tests: []string{"TestPastTheKVARequestIsSentAsByIt"},
	},
	{
		takesOut: "a request that is cancelled is not logged (L1)",
		edits: []edit{
			{"etcdkv.with", "return slices.Concat(options, once())", "return options"},
		},
		tests: []string{"TestACancelledRequestIsNotLogged"},
	},
}
