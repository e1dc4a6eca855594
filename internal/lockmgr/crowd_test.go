package lockmgr

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// crowd puts entries of other clients into the queue of a name, so many that it is a long one.
func (r *rig) crowd(name string) (keys []string) {
	id := r.GrantLease(time.Hour)
	for i := range queue.ShortQueue + 4 {
		key := fmt.Sprintf("%s/%x", name, int64(id)+int64(i))
		r.PutKey(key, "", id)
		keys = append(keys, key)
	}
	return keys
}

// wait has a caller wait for a name. The channel has what comes of it.
func (m *managed) wait(ctx context.Context, name string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		h, err := m.Acquire(ctx, name, exclusive())
		done <- outcome{h, err}
	}()
	m.rig.pass(time.Second) // it is in the queue
	return done
}

// workers is how many local queues have a goroutine.
func workers() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "lockmgr.(*Manager).work(")
}

type outcome struct {
	hold *Hold
	err  error
}

func TestAWaitInALongQueueHasNoGoroutineButItsCallers(t *testing.T) {
	const callers = 50
	simulate(t, func(r *rig) {
		m := r.manager("a")
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		var all []<-chan outcome
		for i := range callers {
			name := fmt.Sprint("m", i)
			r.crowd(name)
			all = append(all, m.wait(ctx, name))
		}
		require.Equal(r, callers, m.Stats().Waiting)
		require.Zero(r, workers())
		cancel()
		for _, done := range all {
			require.ErrorIs(r, (<-done).err, context.Canceled)
		}
		r.pass(time.Minute)
		require.Equal(r, nothing, m.Snapshot())
		require.Len(r, r.Keys("m"), callers*(queue.ShortQueue+4), "only those of others")
	})
}

// candidate is the request of an election.
func candidate() local.Call {
	c := exclusive()
	c.Candidate = true
	return c
}

// A candidate in a long queue waits by itself, too, and a worker asks whether it leads. That costs the same requests
// as with a worker from the beginning.
func TestACandidateInALongQueueHasNoGoroutineButItsCallers(t *testing.T) {
	requests := make(map[bool][]int)
	for _, alone := range []bool{true, false} {
		simulate(t, func(r *rig) {
			m := r.manager("a")
			keys := r.crowd("m")
			call := candidate()
			if !alone {
				call.Waiting = local.NewWaiting(func(int) {})
			}
			done := m.call(r.Context(), "m", call)
			require.Equal(r, alone, workers() == 0)
			for _, key := range keys {
				require.Empty(r, done)
				r.DeleteKey(key)
				r.pass(10 * time.Millisecond)
			}
			got := <-done
			require.NoError(r, got.err)
			require.Equal(r, local.PathQueued, got.hold.Path())
			requests[alone] = []int{m.client.Count(simetcd.Range), m.client.Count(simetcd.TxnReadOnly), m.client.Count(simetcd.Txn)}
			r.unlock(got.hold)
		})
	}
	require.Equal(t, requests[false], requests[true])
}

// Another candidate with a higher priority leads first. A worker goes on with the key behind it.
func TestACandidateInALongQueueStepsBehind(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.manager("a"), r.manager("b")
		keys := r.crowd("m")
		higher := candidate()
		higher.Rank = wire.Slot{Priority: 1}
		first, second := a.call(r.Context(), "m", candidate()), b.call(r.Context(), "m", higher)
		require.Zero(r, workers())
		for _, key := range keys {
			r.DeleteKey(key)
		}
		r.pass(time.Second)
		require.Empty(r, first)
		require.NotEmpty(r, second)
		leads := <-second
		require.NoError(r, leads.err)
		r.unlock(leads.hold)
		next := <-first
		require.NoError(r, next.err)
		require.Greater(r, next.hold.Token(), leads.hold.Token())
		r.unlock(next.hold)
		r.pass(time.Minute)
		require.Empty(r, r.Keys("m"))
	})
}

func TestACallerInALongQueueHoldsByItsWait(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		keys := r.crowd("m")
		done := m.wait(r.Context(), "m")
		for _, key := range keys {
			require.Empty(r, done)
			r.DeleteKey(key)
			r.pass(time.Second)
		}
		got := <-done
		require.NoError(r, got.err)
		require.Equal(r, local.PathQueued, got.hold.Path())
		require.Greater(r, got.hold.Token(), got.hold.Entry().CreateRevision)
		r.pass(time.Minute)
		require.NoError(r, got.hold.Err())
		r.unlock(got.hold)
		r.pass(time.Minute)
		require.Equal(r, nothing, m.Snapshot())
		require.Empty(r, r.Keys("m"))
	})
}

// The watch of a wait is kept for the next one, without a goroutine, until the name is forgotten.
func TestAWaitInALongQueueLeavesNoWatch(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		keys := r.crowd("m")
		done := m.wait(r.Context(), "m")
		for _, key := range keys {
			r.DeleteKey(key)
		}
		r.unlock((<-done).hold)
		require.Equal(r, 1, m.client.Open().Watches)
		require.Zero(r, workers())
		r.pass(2 * time.Second)
		require.Zero(r, m.client.Open().Watches)
		require.Equal(r, nothing, m.Snapshot())
	})
}

// After a deadline the error names the entry in the way, and the own entry is deleted.
func TestACallerInALongQueueGivesUp(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		keys := r.crowd("m")
		ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
		defer cancel()
		got := <-m.wait(ctx, "m")
		var waited *WaitError
		require.ErrorAs(r, got.err, &waited)
		require.Equal(r, keys[len(keys)-1], string(waited.Locked.By.KV.Key))
		require.ErrorIs(r, got.err, context.DeadlineExceeded)
		r.pass(time.Second)
		require.Len(r, r.Keys("m"), len(keys))
		r.pass(time.Minute)
		require.Equal(r, nothing, m.Snapshot())
	})
}

// The caller that waits gives up. Its place in etcd stays for the caller behind it.
func TestThePlaceInALongQueueGoesToTheNextCaller(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		keys := r.crowd("m")
		ctx, cancel := context.WithCancel(r.Context())
		first, second := m.wait(ctx, "m"), m.wait(r.Context(), "m")
		created := r.Keys("m")[len(keys)].CreateRevision
		cancel()
		require.ErrorIs(r, (<-first).err, context.Canceled)
		r.pass(time.Second)
		for _, key := range keys {
			r.DeleteKey(key)
		}
		got := <-second
		require.NoError(r, got.err)
		require.Equal(r, created, got.hold.Entry().CreateRevision)
		r.unlock(got.hold)
	})
}

func TestAWaitInALongQueueEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end func(r *rig, m *managed)
		by  error
	}{
		"with its key":     {func(r *rig, m *managed) { r.DeleteKey(fmt.Sprintf("m/%x", int64(m.leaseID()))) }, lockerr.ErrEvicted},
		"with its lease":   {func(_ *rig, m *managed) { m.present.End(errEnded) }, errEnded},
		"with its session": {func(_ *rig, m *managed) { m.close() }, lockerr.ErrSessionClosed},
		"by a drain":       {func(r *rig, m *managed) { require.NoError(r, m.Drain(r.Context())) }, local.ErrDrained},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				m := r.manager("a")
				keys := r.crowd("m")
				done := m.wait(r.Context(), "m")
				r.pass(5 * time.Second)
				c.end(r, m)
				require.ErrorIs(r, (<-done).err, c.by)
				r.pass(time.Minute)
				require.Len(r, r.Keys("m"), len(keys))
			})
		})
	}
}
