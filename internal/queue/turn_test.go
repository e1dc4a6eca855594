package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// party is a session in a queue whose entries are marked.
type party struct {
	*rig
	*Queue
	name   string
	client *simetcd.Client
	lease  clientv3.LeaseID
	entry  *Entry
	got    chan awaited
	cancel context.CancelFunc // ends the wait
}

// lineUp enters sessions one after the other, and has them wait. The names of those that are not marked
// begin with a point.
func (r *rig) lineUp(names ...string) map[string]*party {
	all := make(map[string]*party)
	for _, name := range names {
		p := &party{rig: r, Queue: r.queue(name), name: name, client: r.Client(name), lease: r.GrantLease(time.Hour)}
		r.Cleanup(p.Queue.Close)
		all[name] = p
		p.enter()
		p.wait()
	}
	time.Sleep(20 * time.Millisecond)
	return all
}

func (p *party) want() Want {
	w := Want{Lease: p.lease, Value: p.name}
	if p.name[0] != '.' {
		w.Slot = wire.MarkedSlot(0)
	}
	return w
}

func (p *party) enter() {
	p.Helper()
	var err error
	p.entry, _, err = p.Enter(p.ctx, p.want())
	require.NoError(p, err)
}

func (p *party) wait() {
	ctx, cancel := context.WithCancel(p.ctx)
	p.cancel, p.got = cancel, make(chan awaited, 1)
	e, got, done := p.entry, p.got, make(chan struct{})
	p.Cleanup(func() { cancel(); <-done }) // before the queue is closed
	go func() {
		defer close(done)
		rev, err := p.Await(ctx, e)
		got <- awaited{rev, err}
	}()
}

// holds waits for the grant, which comes within some time, and returns its token.
func (p *party) holds(within time.Duration) int64 {
	p.Helper()
	select {
	case a := <-p.got:
		require.NoError(p, a.err, p.name)
		return a.rev
	case <-time.After(within):
		require.FailNow(p, "still waiting", p.name)
		return 0
	}
}

func (p *party) waits() {
	p.Helper()
	time.Sleep(20 * time.Millisecond)
	require.Empty(p, p.got, p.name)
}

func (p *party) leave() {
	p.Helper()
	require.NoError(p, p.Leave(p.ctx, p.entry, false), p.name)
}

const soon = 20 * time.Millisecond

// The release tells the next entry that it holds. That sends nothing while it waits, and its own release
// needs no read either, because the message has the list.
func TestAReleaseTellsTheNextEntryThatItHolds(t *testing.T) {
	simulate(t, func(r *rig) {
		names := []string{"a", "b", "c", "d", "e"}
		all := r.lineUp(names...)
		last := all["a"].holds(soon)
		require.Equal(r, all["a"].entry.CreateRevision, last)
		for i, name := range names[:len(names)-1] {
			p, next := all[name], all[names[i+1]]
			next.waits()
			p.client.ResetCounts()
			next.client.ResetCounts()
			p.leave()
			token := next.holds(soon)
			require.Equal(r, r.Revision(), token, "the revision of the deletion")
			require.Greater(r, token, last)
			last = token
			require.Zero(r, next.client.Count(), "nothing is sent")
			want := 1
			if i == 0 {
				want = 2 // it has to read the list
			}
			require.Equal(r, want, p.client.Count(), name)
		}
		all["e"].leave()
		require.Empty(r, r.Keys("q/"))
	})
}

// A queue that is longer than a list is read once for each list.
func TestAListIsReadOnceForEachPartOfALongQueue(t *testing.T) {
	simulate(t, func(r *rig) {
		var names []string
		for i := range 2*longestList + 2 {
			names = append(names, fmt.Sprintf("s%d", i))
		}
		all := r.lineUp(names...)
		reads := 0
		for _, name := range names {
			p := all[name]
			p.holds(soon)
			p.client.ResetCounts()
			p.leave()
			reads += p.client.Count(simetcd.Range)
		}
		require.Equal(r, 4, reads, "the last one finds nobody")
	})
}

// Entries that come, leave and stand at one instant: what the others then learn, and how soon. A name with
// a point is a session without marks: an older version, or another client.
func TestNoWakeUpIsLost(t *testing.T) {
	const settled = settleLast + time.Second
	for name, c := range map[string]struct {
		queue []string
		do    func(r *rig, all map[string]*party)
		next  string // the session that holds then
		soon  time.Duration
	}{
		"behind an entry that is not marked": {[]string{".a", "b", "c"}, func(_ *rig, all map[string]*party) { all[".a"].leave() }, "b", soon},
		"an entry that is not marked is between": {[]string{"a", ".b", "c"}, func(_ *rig, all map[string]*party) {
			all["a"].leave()
			all[".b"].holds(soon)
			all["c"].waits()
			all[".b"].leave()
		}, "c", soon},
		"many that are not marked are between": {append(append([]string{"a"}, points(longestList+3)...), "c"), func(_ *rig, all map[string]*party) {
			all["a"].leave()
			for _, name := range points(longestList + 3) {
				all[name].holds(soon)
				all[name].leave()
			}
		}, "c", soon},
		"a whole list of those that are not marked is between": {append(append([]string{"a"}, points(longestList)...), "c"), func(_ *rig, all map[string]*party) {
			all["a"].leave()
			for _, name := range points(longestList) {
				all[name].holds(soon)
				all["c"].waits()
				all[name].leave()
			}
		}, "c", soon},
		"the first of those that are marked is deleted": {[]string{".a", "b"}, func(r *rig, all map[string]*party) {
			time.Sleep(settleWait - 100*time.Millisecond) // it watches its own key soon, and the next one sleeps
			for name, p := range r.lineUp("c") {
				all[name] = p
			}
			r.DeleteKey(all["b"].entry.Key)
			require.ErrorIs(r, (<-all["b"].got).err, lockerr.ErrEvicted)
			all[".a"].leave()
		}, "c", soon},
		"a wait is cancelled": {[]string{"a", "b", "c"}, func(_ *rig, all map[string]*party) {
			all["b"].cancel()
			<-all["b"].got
			all["b"].leave()
			all["c"].waits()
			all["a"].leave()
		}, "c", soon},
		"the first of those that are marked is cancelled": {[]string{".a", "b", "c"}, func(_ *rig, all map[string]*party) {
			all["b"].cancel()
			<-all["b"].got
			all["b"].leave()
			all[".a"].leave()
		}, "c", soon},
		"a wait is cancelled while its turn comes": {[]string{"a", "b", "c"}, func(_ *rig, all map[string]*party) {
			all["b"].cancel()
			<-all["b"].got
			all["a"].leave()
			all["b"].leave()
		}, "c", soon},
		"an entry comes while the holder leaves": {[]string{"a"}, func(r *rig, all map[string]*party) {
			list := r.on("a", simetcd.Range)
			go func() {
				<-list
				for name, p := range r.lineUp("b") {
					all[name] = p
				}
			}()
			all["a"].leave()
			time.Sleep(50 * time.Millisecond)
		}, "b", soon},
		"the next entry is deleted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			list := r.on("a", simetcd.Range)
			go func() {
				<-list
				r.DeleteKey(all["b"].entry.Key)
			}()
			all["a"].leave()
		}, "c", soon},
		"an entry of the list that was passed on is deleted": {[]string{"a", "b", "c", "d"}, func(r *rig, all map[string]*party) {
			all["a"].leave()
			all["b"].holds(soon)
			r.DeleteKey(all["c"].entry.Key)
			all["b"].leave()
		}, "d", soon},
		"the holder is deleted, and others are between": {append(append([]string{"a"}, points(longestList+3)...), "c"), func(r *rig, all map[string]*party) {
			r.DeleteKey(all["a"].entry.Key)
			require.ErrorIs(r, all["a"].Leave(r.ctx, all["a"].entry, false), lockerr.ErrEvicted)
			for _, name := range points(longestList + 3) {
				all[name].holds(soon)
				all[name].leave()
			}
		}, "c", soon},
		"the holder is deleted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.DeleteKey(all["a"].entry.Key)
			require.ErrorIs(r, all["a"].Leave(r.ctx, all["a"].entry, false), lockerr.ErrEvicted)
		}, "b", soon},
		"an entry that waits is deleted, and then the holder": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.DeleteKey(all["b"].entry.Key)
			r.DeleteKey(all["a"].entry.Key)
			require.ErrorIs(r, (<-all["b"].got).err, lockerr.ErrEvicted)
		}, "c", settled},
		"the lease of the holder ends": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) { r.RevokeLease(all["a"].lease) }, "b", settled},
		"an inbox is deleted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.DeleteKey(wire.InboxKey("q", all["b"].lease))
			all["a"].leave()
		}, "b", soon},
		"the watches break": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.CutWatches()
			all["a"].leave()
		}, "b", settleFirst / 2},
		"the watches break, and their past is compacted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.CutWatches()
			all["a"].leave()
			r.Compact(r.Revision())
		}, "b", settleFirst / 2},
		"the answer to the release is lost": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.loses("a", simetcd.Txn)
			all["a"].leave()
		}, "b", soon},
		"the holder is swept": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			swept := []Swept{{Name: "q", Key: all["a"].entry.Key}}
			require.NoError(r, (&Queues{all["c"].shared}).Sweep(r.ctx, swept))
			require.True(r, swept[0].Deleted)
			require.Empty(r, r.Keys(wire.InboxKey("q", all["a"].lease)))
		}, "b", soon},
		"a role has changed": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.Intercept(func(c simetcd.Call) simetcd.Action {
				if c.Client == "a" && writesInbox(c) {
					return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
				}
				return simetcd.Action{}
			})
			all["a"].leave()
		}, "b", settled},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				all := r.lineUp(c.queue...)
				token := all[c.queue[0]].holds(soon)
				c.do(r, all)
				synctest.Wait()
				r.Intercept(nil)
				next := all[c.next]
				require.Greater(r, next.holds(c.soon), token)
				for _, kv := range r.Keys("q/") {
					require.GreaterOrEqual(r, kv.CreateRevision, next.entry.CreateRevision, "an older one stands")
				}
				next.leave()
				rest := false
				for _, name := range c.queue {
					if rest {
						all[name].holds(settled)
						all[name].leave()
					}
					rest = rest || name == c.next
				}
				require.Empty(r, r.Keys("q/"))
			})
		})
	}
}

func points(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf(".b%d", i))
	}
	return names
}

// on returns a channel that is closed after the next request of a kind by a client, before that one goes
// on.
func (r *rig) on(client string, kind simetcd.Kind) <-chan struct{} {
	done, first := make(chan struct{}), true
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && c.Kind == kind && first {
			first = false
			close(done)
			return simetcd.Action{DelayReply: 10 * time.Millisecond}
		}
		return simetcd.Action{}
	})
	return done
}

// loses loses the answer to the next request of a kind by a client.
func (r *rig) loses(client string, kind simetcd.Kind) {
	first := true
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && c.Kind == kind && first {
			first = false
			return simetcd.Action{ErrAfter: rpctypes.ErrGRPCNoLeader}
		}
		return simetcd.Action{}
	})
}

// writesInbox reports whether a request may write an inbox.
func writesInbox(c simetcd.Call) bool {
	req, ok := c.Req.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range req.Success {
		if put := op.GetRequestPut(); put != nil && put.IgnoreLease {
			return true
		}
	}
	return false
}

// A session uses the same key again. A message for its earlier entry tells the present one nothing.
func TestAMessageForAnEarlierEntryIsIgnored(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b", "c")
		b, inbox := all["b"], wire.InboxKey("q", all["b"].lease)
		was := b.entry.CreateRevision
		b.cancel()
		<-b.got
		b.leave()
		b.enter()
		b.wait()
		r.PutKey(inbox, wire.Message{To: was, Turn: true}.Encode("q"), b.lease)
		r.PutKey(inbox, "turn x", b.lease)
		b.waits()
		r.PutKey(inbox, wire.Message{To: b.entry.CreateRevision}.Encode("q"), b.lease)
		b.waits() // it looks, and finds others
		all["a"].leave()
		all["c"].holds(soon)
		b.waits()
		all["c"].leave()
		b.holds(soon)
	})
}

// A message may come before the answer to the entry.
func TestAMessageThatOvertakesTheAnswerCounts(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "z")
		p := &party{rig: r, Queue: r.queue("b"), name: "b", client: r.Client("b"), lease: r.GrantLease(time.Hour)}
		defer p.Queue.Close()
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "b" && c.Kind == simetcd.Txn {
				return simetcd.Action{DelayReply: 100 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		go func() {
			time.Sleep(20 * time.Millisecond)
			all["a"].leave()
			all["z"].holds(soon)
			all["z"].leave()
		}()
		p.enter()
		p.wait()
		p.client.ResetCounts()
		p.holds(soon)
		require.Zero(r, p.client.Count())
	})
}

// An entry that was written by a try without an answer may have been told something before.
func TestAnEntryOfAnEarlierTryLooksForItself(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a")
		r.loses("b", simetcd.Txn)
		b := r.lineUp("b")["b"]
		require.True(r, b.entry.Adopted())
		require.False(r, b.entry.asleep)
		all["a"].leave()
		b.holds(soon)
		b.leave()
		require.Empty(r, r.Keys("q/"))
	})
}

// A role may not be allowed to write beside the queue. Then entries are not marked, and wait as ever.
func TestWithoutAnInboxEntriesWaitAsEver(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp(".a")
		inbox := 0
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if req, ok := c.Req.(*pb.TxnRequest); ok && c.Client == "b" {
				for _, op := range req.Success {
					if put := op.GetRequestPut(); put != nil && len(put.Key) > 2 && put.Key[1] == 0 {
						inbox++
						return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
					}
				}
			}
			return simetcd.Action{}
		})
		b := r.queue("b")
		defer b.Close()
		b.crowd = -1
		require.True(r, b.Crowded())
		lease := r.GrantLease(time.Hour)
		_, _, err := b.Enter(r.ctx, Want{Lease: lease, Slot: wire.MarkedSlot(0)})
		require.ErrorIs(r, err, ErrUnmarked)
		require.Len(r, r.Keys("q/"), 1, "nothing was written")
		require.False(r, b.Crowded())
		require.Equal(r, clientv3.NoLease, b.Posted())
		e, _, err := b.Enter(r.ctx, Want{Lease: lease})
		require.NoError(r, err)
		require.Equal(r, 1, inbox, "it is not tried again")
		got := r.await(b, e)
		time.Sleep(soon)
		require.Empty(r, got)
		all[".a"].leave()
		require.NoError(r, (<-got).err)
		require.NoError(r, b.Leave(r.ctx, e, false))
		require.Empty(r, r.Keys("q/"))
	})
}

// Only a queue that is known to be long has marked entries.
func TestEntriesAreMarkedInLongQueuesOnly(t *testing.T) {
	simulate(t, func(r *rig) {
		q := r.queue("a")
		defer q.Close()
		require.False(r, q.Crowded())
		enter := func(n int) {
			for range n {
				require.NoError(r, q.Leave(r.ctx, r.enter(q), false))
			}
		}
		others := []*Entry{r.enter(r.queue("b"))}
		for range 6 {
			others = append(others, r.enter(r.queue("b")))
		}
		require.EqualValues(r, crowd, q.crowd)
		q.crowd = 7
		enter(20)
		require.False(r, q.Crowded())
		others = append(others, r.enter(r.queue("b")))
		enter(20)
		require.True(r, q.Crowded())
		shorten := func() {
			require.NoError(r, q.Leave(r.ctx, others[0], false))
			others = others[1:]
			enter(20)
		}
		shorten()
		shorten()
		require.True(r, q.Crowded(), "it is less than one below")
		shorten()
		require.False(r, q.Crowded())
	})
}

// A mark costs more than it saves if waits are given up, or are long.
func TestEntriesAreMarkedWhileThatPays(t *testing.T) {
	simulate(t, func(r *rig) {
		var w record
		n := int64(0)
		wait := func(times int, granted bool, lasts time.Duration) {
			for range times {
				n++
				e := &Entry{CreateRevision: n}
				w.begins(e)
				time.Sleep(lasts)
				w.begins(e) // again
				if granted {
					w.granted()
				}
			}
		}
		wait(20, true, time.Millisecond)
		require.True(r, w.pays())
		for range 20 { // one of four
			wait(1, false, time.Millisecond)
			wait(3, true, time.Millisecond)
			require.True(r, w.pays())
		}
		for range 20 { // every other one
			wait(1, false, time.Millisecond)
			wait(1, true, time.Millisecond)
		}
		require.False(r, w.pays())
		wait(15, true, time.Millisecond)
		require.False(r, w.pays(), "it changes late")
		wait(30, true, time.Millisecond)
		require.True(r, w.pays())
		wait(1, true, longWait)
		require.False(r, w.pays())
		wait(1, true, longWait-time.Millisecond)
		require.True(r, w.pays())
	})
}

// A refused release reads the next list in the same transaction, unless the queue is long.
func TestARefusedReleaseIsTwoRequests(t *testing.T) {
	simulate(t, func(r *rig) {
		for long, want := range map[bool]int{false: 2, true: 3} {
			all := r.lineUp("a", "b", "c", "d")
			all["a"].holds(soon)
			all["a"].leave()
			b := all["b"]
			b.holds(soon)
			all["c"].cancel()
			<-all["c"].got
			r.DeleteKey(all["c"].entry.Key)
			if long {
				b.entry.sees(seen{count: mostPeeked})
			}
			b.client.ResetCounts()
			b.leave()
			require.Equal(r, want, b.client.Count())
			all["d"].holds(soon)
			all["d"].leave()
		}
	})
}

// The place of an entry of a former process is kept, by whichever kind of entry.
func TestAMarkedEntryIsLeftOnlyOnce(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a := all["a"]
		a.leave()
		all["b"].holds(soon)
		require.ErrorIs(r, a.Leave(r.ctx, a.entry, false), lockerr.ErrEvicted)
		require.NoError(r, a.Leave(r.ctx, a.entry, true), "by an earlier try")
		deleted, err := a.LeaveOnce(r.ctx, a.entry)
		require.NoError(r, err)
		require.False(r, deleted)
		require.Len(r, r.Keys("q/"), 1)
		require.NotErrorIs(r, all["b"].Leave(r.ctx, all["b"].entry, false), lockerr.ErrEvicted)
	})
}

// A waiter that has settled watches the entry ahead, too. Its turn comes with the deletion.
func TestASettledEntryHoldsByItsTurn(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		time.Sleep(2 * settleLast)
		all["b"].client.ResetCounts()
		all["a"].leave()
		all["b"].holds(soon)
		require.Zero(r, all["b"].client.Count())
	})
}

// A role may not be allowed to watch its inbox. After some tries entries are not marked any more.
func TestASessionThatCannotWatchItsInboxMarksNoEntry(t *testing.T) {
	simulate(t, func(r *rig) {
		q := r.queue("a")
		defer q.Close()
		q.crowd = -1
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Watch {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		lease := r.GrantLease(time.Hour)
		for range mostUnheard {
			require.True(r, q.Crowded())
			require.False(r, q.Listens(r.ctx, lease))
		}
		require.False(r, q.Crowded())
	})
}

// An inbox is deleted while its watch is broken, and the watch never reports it.
func TestAnInboxThatWentUnseenIsWrittenAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b", "c")
		b, inbox := all["b"], wire.InboxKey("q", all["b"].lease)
		r.CutWatches()
		r.DeleteKey(inbox)
		r.Compact(r.Revision())
		time.Sleep(time.Second)
		all["a"].leave()
		b.holds(soon)
		b.leave()
		b.enter()
		b.wait()
		require.Len(r, r.Keys(inbox), 1)
		all["c"].holds(soon)
		b.waits()
		b.client.ResetCounts()
		all["c"].leave()
		b.holds(soon)
		require.Zero(r, b.client.Count())
	})
}
