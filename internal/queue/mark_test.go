package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

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
		require.False(r, q.HasMarked(), "waits set no timer for the error of a marked one")
		others = append(others, r.enter(r.queue("b")))
		enter(20)
		require.True(r, q.Crowded())
		require.True(r, q.HasMarked())
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

// A session that is new in a storm marks one entry. Sessions that come and go would mark several each.
func TestASessionMarksNoMoreIfItsFirstWaitIsGivenUp(t *testing.T) {
	var w record
	w.begins(&Entry{CreateRevision: 1})
	require.True(t, w.pays())
	w.begins(&Entry{CreateRevision: 2})
	require.False(t, w.pays())
	for n := range int64(10) {
		w.granted()
		w.begins(&Entry{CreateRevision: 3 + n})
	}
	require.True(t, w.pays())
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

// A caller that leaves while its inbox is opened tells nothing of the next inbox.
func TestAnInboxThatWasGivenUpIsTriedAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		q := r.queue("a")
		defer q.Close()
		q.crowd = -1
		lease := r.GrantLease(time.Hour)
		left, leave := context.WithCancel(r.ctx)
		leave()
		for range mostUnheard {
			require.False(r, q.Listens(left, lease))
		}
		require.True(r, q.Crowded())
		require.True(r, q.Listens(r.ctx, lease))
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
