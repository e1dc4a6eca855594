package main

// handoffMutations are about direct handoff in long queues. The model takes the same rules out, see
// model/handoff.md.
var handoffMutations = []mutation{
	{
		takesOut: "a message grants only after the sender's token",
		edits: []edit{
			{"queue.(*inbox).tells", "m.Turn && ev.Kv.ModRevision <= m.After", "false"},
		},
		tests: []string{"TestAMessageOfARestoredEtcdGrantsNothing"},
	},
	{
		takesOut: "a turn is only for an entry that stands",
		edits: []edit{
			{"queue.(*line).message", "created(next.Key, next.Created), ", ""},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a message is only for an entry that has an inbox",
		edits: []edit{
			{"queue.(*line).message", "clientv3.Compare(clientv3.CreateRevision(inbox), \">\", 0)", "clientv3.Compare(clientv3.CreateRevision(inbox), \">\", -1)"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "only the holder gives a turn",
		edits: []edit{
			{"queue.(*line).message", "if holds && i == 0 && !list.past {", "if i == 0 && !list.past {"},
		},
		tests: []string{"TestNoWakeUpIsLost", "TestWhoseTurnItIsIsTold"},
	},
	{
		takesOut: "a turn is only for the entry right behind the holder",
		edits: []edit{
			{"queue.(*line).message", "if holds && i == 0 && !list.past {", "if holds {"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a list that was read behind others gives no turn",
		edits: []edit{
			{"queue.(*line).message", "if holds && i == 0 && !list.past {", "if holds && i == 0 {"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "an entry that tells nobody leaves nobody behind its list",
		edits: []edit{
			{"queue.(*line).departure", "d.txn.If = append(d.txn.If, none)", "_ = none"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a marked entry whose key is gone tells the next one",
		edits: []edit{
			{"queue.(*line).leaveMarked", "return l.tellBehind(ctx, e.Entry)", "return nil"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a marked entry that finds its key gone while it waits tells the next one",
		edits: []edit{
			{"queue.(*Queue).awaitTurn", "return q.tellBehind(ctx, e)", "return nil"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a marked key that is swept tells the next entry",
		edits: []edit{
			{"queue.(*Queues).Sweep", "ok && p.Slot.Marked()", "false && ok"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a message for an earlier entry is ignored",
		edits: []edit{
			{"queue.(*inbox).tells", "m.To != e.CreateRevision", "false"},
		},
		tests: []string{"TestAMessageForAnEarlierEntryIsIgnored"},
	},
	{
		takesOut: "the first marked entry waits by itself",
		edits: []edit{
			{"queue.(*Queue).enterMarked", "e.asleep || marked && q.inbox != nil", "e.asleep || (marked || true) && q.inbox != nil"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a look makes an entry wait by itself",
		edits: []edit{
			{"queue.(*Queue).sleep", "!look && what", "(look || !look) && what"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "an entry whose watch may have missed a message looks",
		edits: []edit{
			{"queue.(*Queue).sleep", "&& what != opened", ""},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "an entry settles",
		edits: []edit{
			{"queue.(*Queue).sleep", "&& what != due && what != woken", ""},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "without the permission for an inbox entries wait as ever",
		edits: []edit{
			{"queue.(*Queue).enterMarked", "errors.Is(err, rpctypes.ErrPermissionDenied) && inbox != nil", "false"},
		},
		tests: []string{"TestWithoutAnInboxEntriesWaitAsEver"},
	},
	{
		takesOut: "a release that may tell nothing deletes its key",
		edits: []edit{
			{"queue.(*line).leaveMarked", "errors.Is(err, rpctypes.ErrPermissionDenied)", "false"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "a message that comes before the answer to the entry counts",
		edits: []edit{
			{"queue.(*Queue).awaitTurn", "q.inbox.begin(", "q.inbox.empty(); q.inbox.begin("},
		},
		tests: []string{"TestAMessageThatOvertakesTheAnswerCounts"},
	},
	{
		takesOut: "the token of a turn is the revision of the message",
		edits: []edit{
			{"queue.(*inbox).tells", "turn = ev.Kv.ModRevision", "turn = e.CreateRevision"},
		},
		tests: []string{"TestAReleaseTellsTheNextEntryThatItHolds"},
	},
	{
		takesOut: "a list ends before the key of a stranger",
		edits: []edit{
			{"wire.Message.Encode", "!ok || key.Name != name || p.Created <= last", "(!ok || key.Name != name) && false || p.Created <= last"},
		},
		tests: []string{"TestAListEndsBeforeAKeyOfAStranger"},
	},
	{
		takesOut: "entries are marked in long queues only",
		edits: []edit{
			{"queue.(*Queue).Crowded", "q.longerThan(q.crowd) &&", ""},
		},
		tests: []string{"TestEntriesAreMarkedInLongQueuesOnly"},
	},
	{
		takesOut: "a queue stays long until it is shorter by one in the mean",
		edits: []edit{
			{"queue.(*length).longerThan", "limit--", "_ = limit"},
		},
		tests: []string{"TestEntriesAreMarkedInLongQueuesOnly"},
	},
	{
		takesOut: "entries are not marked while most waits are given up",
		edits: []edit{
			{"queue.(*record).pays", "!r.hasty && ", ""},
		},
		tests: []string{"TestEntriesAreMarkedWhileThatPays", "TestAStormOfShortWaitsLosesNoGrants"},
	},
	{
		takesOut: "entries are marked again only after a while",
		edits: []edit{
			{"queue.(*record).granted", "r.givenUp > hastyUntil", "r.givenUp >= hastyFrom"},
		},
		tests: []string{"TestEntriesAreMarkedWhileThatPays"},
	},
	{
		takesOut: "entries are not marked after a long wait",
		edits: []edit{
			{"queue.(*record).pays", " && r.last < longWait", ""},
		},
		tests: []string{"TestEntriesAreMarkedWhileThatPays"},
	},
	{
		takesOut: "a refused release has read the next list",
		edits: []edit{
			{"queue.(*line).message", "ahead > 0 && ahead < mostPeeked", "ahead > mostPeeked"},
		},
		tests: []string{"TestARefusedReleaseIsTwoRequests"},
	},
	{
		takesOut: "a write does not sort a long queue",
		edits: []edit{
			{"queue.(*line).message", "ahead > 0 && ahead < mostPeeked", "ahead > 0"},
		},
		tests: []string{"TestARefusedReleaseIsTwoRequests"},
	},
	{
		takesOut: "the last entry of a queue takes its inbox with it",
		edits: []edit{
			{"queue.(*line).departure", "(d.told < 0 || e.mod != 0)", "e.mod != 0"},
		},
		tests: []string{"TestAnInboxGoesWhenItsNameIsUsedNoMore"},
	},
	{
		takesOut: "an inbox is deleted when its name is used no more",
		edits: []edit{
			{"local.(*Queue).posts", "return l.Single != nil", "return false && l.Single != nil"},
		},
		tests: []string{"TestAnInboxGoesWhenItsNameIsUsedNoMore"},
	},
	{
		takesOut: "Orphan leaves no inbox",
		edits: []edit{
			{"lockmgr.(*Manager).Drain", "err := m.withdraw(ctx); err != nil", "err := error(nil); err != nil"},
		},
		tests: []string{"TestOrphanLeavesNoInbox"},
	},
	{
		takesOut: "the inbox of a former process is deleted with its requests",
		edits: []edit{
			{"adoption.(*Former).DeleteAdoptedRequests", " || wire.IsInbox(string(key), f.lease)", ""},
		},
		tests: []string{"TestTheInboxOfAFormerProcessIsDeletedWithItsKeys"},
	},
	{
		takesOut: "a late entry that is swept takes its inbox with it",
		edits: []edit{
			{"queue.(*line).departure", "(d.told < 0 || e.mod != 0)", "d.told < 0"},
		},
		tests: []string{"TestNoWakeUpIsLost"},
	},
	{
		takesOut: "before a session is closed it has the next entries look",
		edits: []edit{
			{"session.(*Session).finish", "s.manager.Forewarn(ctx)", "_ = ctx"},
		},
		tests: []string{"TestAWaiterBehindASessionThatIsClosedIsGrantedAtOnce"},
	},
	{
		takesOut: "a session that cannot watch its inbox marks no entry",
		edits: []edit{
			{"queue.(*Queue).Crowded", "&& q.mayMark()", ""},
		},
		tests: []string{"TestASessionThatCannotWatchItsInboxMarksNoEntry"},
	},
	{
		takesOut: "what was refused is tried again",
		edits: []edit{
			{"queue.(*turns).mayMark", "&& time.Now().Before(t.until)", "&& t.until.Before(time.Now().Add(1<<62))"},
		},
		tests: []string{"TestWhatWasRefusedIsTriedAgain"},
	},
	{
		takesOut: "what is refused again and again is tried less often",
		edits: []edit{
			{"queue.(*turns).bar", "min(2*t.pause, longestPause)", "firstPause"},
		},
		tests: []string{"TestWhatWasRefusedIsTriedAgain"},
	},
	{
		takesOut: "what is refused again after a long time is tried again soon",
		edits: []edit{
			{"queue.(*turns).bar", "now.Sub(t.until) > t.pause", "t.pause == 0"},
		},
		tests: []string{"TestWhatWasRefusedIsTriedAgain"},
	},
	{
		takesOut: "after a refused message the inbox is written again",
		edits: []edit{
			{"queue.(*Queue).Crowded", "q.inbox.unwritten()", "_ = q"},
		},
		tests: []string{"TestAfterARefusedMessageTheInboxIsWrittenAgain"},
	},
	{
		takesOut: "an inbox that may have gone unseen is written again",
		edits: []edit{
			{"queue.(*inbox).missed", "in.unwritten()", "_ = in"},
		},
		tests: []string{"TestAnInboxThatWentUnseenIsWrittenAgain"},
	},
	{
		takesOut: "a release ends though it can tell nobody",
		edits: []edit{
			{"queue.(*line).leaveMarked", "return l.leaveUntold(ctx, e) // there is no end", "return false, errAgain // there is no end"},
		},
		tests: []string{"TestAReleaseEndsWithManyUnmarkedEntriesBehind"},
	},
	{
		takesOut: "a wait whose key is gone ends though it can tell nobody",
		edits: []edit{
			{"queue.(*line).tellBehind", "return err // there is no end", "return errAgain // there is no end"},
		},
		tests: []string{"TestAnEvictedWaiterReturns"},
	},
	{
		takesOut: "an eviction is reported whatever came of the message that follows",
		edits: []edit{
			{"queue.(*line).leaveMarked", "_, _ = l.retry(ctx, int64(e.Lease), func(ctx context.Context) error { return l.tellBehind(ctx, e.Entry) })", "if err := l.tellBehind(ctx, e.Entry); err != nil { return false, err }"},
		},
		tests: []string{"TestAnEvictionIsReported"},
	},
	{
		takesOut: "a wait that is begun again settles when the first one would have",
		edits: []edit{
			{"queue.(*record).begins", "if r.entry == e.CreateRevision {", "if false {"},
		},
		tests: []string{"TestAWaitThatIsBegunAgainSettles"},
	},
	{
		takesOut: "the deletion of an inbox behind a turn is noted",
		edits: []edit{
			{"queue.(*inbox).tells", "turn = ev.Kv.ModRevision", "return ev.Kv.ModRevision, false"},
		},
		tests: []string{"TestADeletionBehindATurnIsNoted"},
	},
	{
		takesOut: "a session that cannot watch its inbox enters unmarked",
		edits: []edit{
			{"lockmgr.line.takeMarked", "if !l.Single.Listens(ctx, ls.ID()) {", "if !l.Single.Listens(ctx, ls.ID()) && false {"},
		},
		tests: []string{"TestASessionThatCannotWatchItsInboxEntersUnmarked"},
	},
	{
		takesOut: "a session whose inbox is refused enters unmarked",
		edits: []edit{
			{"lockmgr.line.enter", "errors.Is(err, queue.ErrUnmarked)", "false"},
		},
		tests: []string{"TestASessionWithoutAnInboxHoldsUpNoOther"},
	},
	{
		takesOut: "a marked key of the former process is adopted without an inbox",
		edits: []edit{
			{"lockmgr.line.unmark", "a.found.Slots == nil", "true || a.found.Slots == nil"},
		},
		tests: []string{"TestAMarkedKeyIsAdoptedWithoutAnInbox"},
	},
	{
		takesOut: "a session whose message was refused marks no entry",
		edits: []edit{
			{"queue.(*Queue).Crowded", "q.last != nil && q.last.behind.Load() == untold", "false"},
		},
		tests: []string{"TestASessionThatMayTellNothingAnyMoreMarksNoEntry"},
	},
	{
		takesOut: "what lies beside a name inside another one is no entry",
		edits: []edit{
			{"wire.BesideInner", "return i >= 0 && len(from)+i+1 < len(key)", "return false && i >= 0"},
		},
		tests: []string{"TestWhatLiesBesideNamesInsideANameIsNoEntry"},
	},
	{
		takesOut: "an entry looks past what lies beside other names",
		edits: []edit{
			{"queue.(*line).lookAhead", "len(ahead) > 0 || !resp.More", "true || len(ahead) > 0"},
		},
		tests: []string{"TestWhatLiesBesideNamesInsideANameIsNoEntry"},
	},
	{
		takesOut: "a cache takes in nothing that lies beside other names",
		edits: []edit{
			{"queue.(*snapshot).change", "if wire.BesideInner(s.from, ev.Kv.Key) {", "if false {"},
		},
		tests: []string{"FuzzFollow"},
	},
	{
		takesOut: "a key is kept though a watch reports what lies beside other names",
		edits: []edit{
			{"queue.(*Guard).others", "&& !wire.BesideInner(from, ev.Kv.Key)", "&& from != \"\""},
		},
		tests: []string{"TestAKeyIsKeptThoughKeysBesideNamesInsideItsComeAndGo"},
	},
	{
		takesOut: "a key is kept though a reading finds what lies beside other names",
		edits: []edit{
			{"queue.(*reading).meets", "entriesOf(from, read.Kvs)", "append(entriesOf(from, nil), read.Kvs...)"},
		},
		tests: []string{"TestAKeyIsKeptThoughKeysBesideNamesInsideItsComeAndGo"},
	},
	{
		takesOut: "a reading of a kept key looks behind what lies beside other names",
		edits: []edit{
			{"queue.(*reading).meets", "r.contended || !read.More", "true || read.More"},
		},
		tests: []string{"TestAKeptKeyGoesForAnEntryBehindManyKeysBesideOtherNames"},
	},
	{
		takesOut: "an election is paused by its entries alone",
		edits: []edit{
			{"pause.entries", "wire.BesideInner(from, kv.Key)", "from == \"\" && kv == nil"},
		},
		tests: []string{"TestAnElectionIsPausedThoughKeysLieBesideNamesInsideIts"},
	},
	{
		takesOut: "a list goes on behind what lies beside other names",
		edits: []edit{
			{"queue.(*line).newBehind", "b.end = kv.CreateRevision", "_ = kv"},
		},
		tests: []string{"TestWhatLiesBesideNamesInsideANameIsNoEntry"},
	},
	{
		takesOut: "a try reads all entries if there is only what lies beside other names",
		edits: []edit{
			{"queue.(*Queue).TryEnter", "case !all:", "case false:"},
			{"queue.(*Set).adopt", "if read.More {", "if false {"},
		},
		tests: []string{"TestATryIsRefusedBehindManyKeysBesideOtherNames"},
	},
	{
		takesOut: "a try of several names goes on if there is only what lies beside other names",
		edits: []edit{
			{"queue.(*Set).TryEnter", "!errors.As(err, &found) ||", "true || !errors.As(err, &found) ||"},
		},
		tests: []string{"TestWhatLiesBesideNamesInsideANameIsNoEntry"},
	},
	{
		takesOut: "the error of a marked wait names the present holder",
		edits: []edit{
			{"queue.(*Queues).Foresee", "known != nil && !known.foreseen", "known != nil"},
		},
		tests: []string{"TestTheErrorOfAMarkedWaitNamesNoFormerHolder"},
	},
	{
		takesOut: "a wait that is granted by a message names no entry ahead",
		edits: []edit{
			{"queue.(*Queue).sleep", "e.obstacle.Store(nil)", "_ = e"},
		},
		tests: []string{"TestAMarkedWaitLearnsNoSpanOfAnEntryThatHasLeft"},
	},
}
