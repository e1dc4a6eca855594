package lockmgr

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/states"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestMain(m *testing.M) {
	states.Refused = func(err error) { panic(err) }
	goleak.VerifyTestMain(m)
}

// ttl is that of each lease.
const ttl = 10 * time.Second

// rig is a simulated etcd in virtual time, and managers on it, without sessions.
type rig struct {
	*testing.T
	*simetcd.Server
	managers []*managed
}

// managed is a manager with what a session does for it.
type managed struct {
	*Manager
	rig     *rig
	client  *simetcd.Client
	end     context.CancelCauseFunc
	keeper  sync.WaitGroup
	number  int
	present *lease.Lease // the last one that was lent
	bug     error        // that the manager has failed with
	lost    atomic.Int64 // holds that went with their leases
	logs    *observer.ObservedLogs
}

// simulate runs a test, and ends all managers afterwards.
func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		r := &rig{T: t, Server: srv}
		defer func() {
			for _, m := range r.managers {
				m.close()
			}
		}()
		test(r)
	})
}

// manager makes a manager with a lease.
func (r *rig) manager(name string) *managed { return r.managerOf(name, 0) }

// marking makes a manager that marks all entries, as in a long queue.
func (r *rig) marking(name string) *managed { return r.managerOf(name, -1) }

func (r *rig) managerOf(name string, crowd int64) *managed {
	r.Helper()
	client, start := r.Client(name), time.Now()
	life, end := context.WithCancelCause(context.Background())
	core, logs := observer.New(zap.WarnLevel)
	log := zap.New(core)
	m := &managed{rig: r, client: client, end: end, logs: logs}
	writer := etcdkv.NewWriter(etcdkv.WriterConfig{
		Life: life, KV: client.KV, Slots: etcdkv.Slots, Spawn: func(f func()) bool { m.keeper.Go(f); return true },
	})
	queues := queue.NewQueues(queue.Config{Life: life, KV: client.KV, Writer: writer, Watcher: client.Watcher, Log: log, Crowd: crowd})
	m.Manager = New(Config{
		Life: life, KV: client.KV, Leases: client.Lease, Writer: writer, Queues: queues, Log: log,
		Clock:        func() time.Duration { return time.Since(start) },
		Insist:       func(ctx context.Context, try func(context.Context) error) error { return try(ctx) },
		RevokeFormer: func(context.Context, string) bool { return false },
		Fail: func(bug error) {
			m.bug = bug
			end(bug)
		},
	})
	r.managers = append(r.managers, m)
	m.lend()
	return m
}

// lend grants the manager a lease, and keeps that alive.
func (m *managed) lend() *lease.Lease {
	m.rig.Helper()
	l, err := lease.Grant(m.rig.Context(), m.cfg.Life, lease.Config{Client: m.client.Lease, TTL: ttl, Clock: m.cfg.Clock}, new(clientv3.LeaseID))
	require.NoError(m.rig, err)
	m.number++
	m.present = l
	number := m.number
	m.SetLease(l, number)
	m.keeper.Go(func() {
		_ = l.Keep()
		holds, _ := m.LeaseLost(number)
		m.lost.Add(int64(holds))
	})
	return l
}

// close ends the manager as the end of a session does.
func (m *managed) close() {
	m.Close()
	m.end(lockerr.ErrSessionClosed)
	m.Wait()
	m.keeper.Wait()
}

// exclusive is the request of a mutex.
func exclusive() local.Call {
	return local.Call{Request: &local.Request{Identity: "lock", Terms: local.Terms{Slice: time.Millisecond}}}
}

// lock acquires a name.
func (m *managed) lock(name string, c local.Call) *Hold {
	m.rig.Helper()
	h, err := m.Acquire(m.rig.Context(), name, c)
	require.NoError(m.rig, err)
	return h
}

// unlock releases a hold.
func (r *rig) unlock(h *Hold) {
	r.Helper()
	require.NoError(r, h.Release(r.Context()))
}

// pass lets virtual time pass.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// shared is the request of a reader.
func shared() local.Call {
	return local.Call{Request: &local.Request{Identity: "read", Mode: wire.Shared, Want: &wire.Holder{Mode: wire.Shared}, Rule: queue.Shared(), Terms: local.Terms{Slice: time.Millisecond}}}
}

// nothing is the snapshot of a manager that has nothing.
var nothing = Snapshot{Snapshot: local.Snapshot{Admission: "open"}}
