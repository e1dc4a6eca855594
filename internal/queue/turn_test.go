package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

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
		r.PutKey(inbox, wire.Message{To: was, Turn: true, After: 1}.Encode("q"), b.lease)
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
		require.Zero(r, all["b"].client.Count(simetcd.Range, simetcd.Txn, simetcd.TxnReadOnly, simetcd.Watch)) // its watches end
	})
}
