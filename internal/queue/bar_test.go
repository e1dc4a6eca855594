package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// forbidding refuses some requests, and counts them.
type forbidding struct {
	forbids func(simetcd.Call) bool // nil for none
	refused int
}

func (r *rig) forbidding() *forbidding {
	f := &forbidding{}
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if f.forbids == nil || !f.forbids(c) {
			return simetcd.Action{}
		}
		f.refused++
		return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
	})
	return f
}

// createsInbox reports whether a request writes the inbox of its own session.
func createsInbox(c simetcd.Call) bool {
	req, ok := c.Req.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range req.Success {
		if put := op.GetRequestPut(); put != nil && wire.IsInbox(string(put.Key), clientv3.LeaseID(put.Lease)) {
			return true
		}
	}
	return false
}

// use enters and leaves, as the lock manager does, and reports whether the entry was marked.
func (r *rig) use(q *Queue, lease clientv3.LeaseID) (marked bool) {
	r.Helper()
	w := Want{Lease: lease, Value: "v"}
	if marked = q.Crowded() && q.Listens(r.ctx, lease); marked {
		w.Slot = wire.MarkedSlot(0)
	}
	e, _, err := q.Enter(r.ctx, w)
	if marked && err != nil {
		require.ErrorIs(r, err, ErrUnmarked)
		marked, w.Slot = false, wire.Slot{}
		e, _, err = q.Enter(r.ctx, w)
	}
	require.NoError(r, err)
	require.NoError(r, q.Leave(r.ctx, e, false))
	return marked
}

// A role is granted, or a watch can be opened, some time after that was refused. Meanwhile some entries try it,
// and after it the entries are marked again. If it fails again later, the pauses are short again.
func TestWhatWasRefusedIsTriedAgain(t *testing.T) {
	for title, forbids := range map[string]func(simetcd.Call) bool{
		"the inbox": createsInbox,
		"its watch": func(c simetcd.Call) bool { return c.Kind == simetcd.Watch },
	} {
		t.Run(title, func(t *testing.T) {
			simulate(t, func(r *rig) {
				q, lease := r.queue("a"), r.GrantLease(100*time.Hour)
				defer q.Close()
				q.crowd = -1
				f := r.forbidding()
				for range 2 {
					q.Close() // so that both are asked for
					f.forbids, f.refused = forbids, 0
					began := time.Now()
					for time.Since(began) < time.Hour {
						require.False(r, r.use(q, lease))
						time.Sleep(200 * time.Millisecond)
						if time.Since(began) < firstPause {
							require.LessOrEqual(r, f.refused, mostUnheard)
						}
					}
					require.Greater(r, f.refused, 8, "in an hour")
					require.Less(r, f.refused, 15)
					f.forbids = nil
					began = time.Now()
					for !r.use(q, lease) {
						time.Sleep(200 * time.Millisecond)
						require.Less(r, time.Since(began), longestPause+time.Second)
					}
					for range 100 {
						require.True(r, r.use(q, lease))
						time.Sleep(longestPause / 90)
					}
				}
			})
		})
	}
}

// A message was refused. The entry that tries it again asks for the inbox too, and is unmarked if that is
// refused. So no entry behind it has to settle.
func TestAfterARefusedMessageTheInboxIsWrittenAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a, b := all["a"], all["b"]
		a.holds(soon)
		a.crowd = -1
		f := r.forbidding()
		f.forbids = func(c simetcd.Call) bool { return c.Client == "a" && (writesInbox(c) || createsInbox(c)) }
		a.leave()
		b.holds(2 * settleLast)
		b.leave()
		require.Equal(r, 1, f.refused)
		for range 20 {
			require.False(r, r.use(a.Queue, a.lease))
			time.Sleep(firstPause / 10)
		}
		require.Equal(r, 2, f.refused)
		f.forbids = nil
		time.Sleep(2 * firstPause)
		require.True(r, r.use(a.Queue, a.lease))
	})
}
