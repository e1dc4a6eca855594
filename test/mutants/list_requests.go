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
		takesOut: "after a wrong guess the watch is opened before the entry is written",
		edits: []edit{
			{"queue.(*Queue).Enter", "q.openAhead(ctx, w)", ""},
		},
		tests: []string{"TestAWrongGuessCostsOneRequest"},
	},
	{
		takesOut: "a view without an entry is closed",
		edits: []edit{
			{"queue.(*Queue).Enter", "if q.view != nil && q.view.ahead {\nq.closeView", "if q.view != nil && q.view.ahead && false {\nq.closeView"},
		},
		tests: []string{"TestAViewWithoutAnEntryIsClosed"},
	},
	{
		takesOut: "a guess is made soon or not at all",
		edits: []edit{
			{"queue.(*Queue).wasEmpty", "time.Since(q.emptied) < Resting", "!q.emptied.IsZero()"},
		},
		tests: []string{"TestAGuessIsMadeSoonOrNotAtAll"},
	},
	{
		takesOut: "a guess is made of a queue that was empty only",
		edits: []edit{
			{"queue.(*Queue).wasEmpty", "time.Since(q.emptied) < Resting", "true"},
		},
		tests: []string{"TestEveryPathTakesAsFewRequestsAsPromised"},
	},
	{
		takesOut: "a compact enter compares with the whole queue",
		edits: []edit{
			{"queue.(*Queue).ifNobody", "&brief{from: q.from, end: q.end,", "&brief{from: q.key(*w),"},
		},
		tests: []string{"TestABatchInWhichSomeComparisonsFailIsSentAtLength"},
	},
	{
		takesOut: "a batch whose comparisons fail is sent again in the general form",
		edits: []edit{
			{"queue.(*Writer).sendBatch", "if all != nil || err != nil {\nreturn all, err", "if all == nil {\nreturn make([]*clientv3.TxnResponse, len(batch)), context.Canceled\n} else if all != nil || err != nil {\nreturn all, err"},
		},
		tests: []string{"TestABatchInWhichSomeComparisonsFailIsSentAtLength"},
	},
	{
		takesOut: "the writes of a refused batch use all free lanes",
		edits: []edit{
			{"queue.(*Writer).again", "for len(w.waiting) > 0 && w.flying < w.lanes {", "for range 1 {"},
		},
		tests: []string{"TestABatchThatIsRefusedLateIsSentAgainAtOnce"},
	},
	{
		takesOut: "a deletion past the client's KV is guarded",
		edits: []edit{
			{"queue.(*Writer).commit", "req.Compare[i], req.Success[i] = cmp.GetCompare(), b.request()", "req.Success[i] = b.request()\nif req.Compare = req.Compare[:0]; !b.deletes {\nreq.Compare = append(req.Compare, cmp.GetCompare())\n}"},
		},
		tests: []string{"TestBriefWritesAreTheSamePastTheClient"},
	},
	{
		takesOut: "a refused batch fails only the write that is to blame",
		edits: []edit{
			{"queue.(*Writer).fly", "if err != nil && answer.Final(err) {", "if err != nil && answer.Final(err) && false {"},
		},
		tests: []string{"TestARefusedBatchFailsOnlyTheOneThatIsToBlame"},
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
			{"sharedtimer.(*Pooled).Release", "c.stop = nil // which keeps the caller's context, with all that is in it", ""},
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
			{"etcdkv.Direct", "once := with(options)", "once := with(nil)"},
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
