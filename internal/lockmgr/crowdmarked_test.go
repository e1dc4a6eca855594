package lockmgr

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// strays are the goroutines of a lock manager or a queue that are not those of a caller.
func strays() (n int) {
	stacks := make([]byte, 1<<22)
	for one := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		ours := strings.Contains(one, "internal/lockmgr.") || strings.Contains(one, "internal/queue.")
		if ours && !strings.Contains(one, ".Acquire(") && !strings.Contains(one, "testing.tRunner") && !strings.Contains(one, "lease.(*Lease).Keep(") {
			n++
		}
	}
	return n
}

// line puts managers into the queue of a name, one behind the other. The first one holds.
func (r *rig) line(name string, of ...*managed) (first *Hold, others []<-chan outcome) {
	first = of[0].lock(name, exclusive())
	for _, m := range of[1:] {
		done := make(chan outcome, 1)
		go func() {
			h, err := m.Acquire(r.Context(), name, exclusive())
			done <- outcome{h, err}
		}()
		others = append(others, done)
		r.pass(10 * time.Millisecond)
	}
	return first, others
}

// marked are the entries of a queue that are marked.
func (r *rig) marked(name string) (n int) {
	for _, kv := range r.Keys(name + "/") {
		if _, ok := wire.MarkedOf(name, string(kv.Key)); ok {
			n++
		}
	}
	return n
}

func TestAMarkedWaitHasNoGoroutineButItsCallers(t *testing.T) {
	const sessions = 20
	simulate(t, func(r *rig) {
		var all []*managed
		for i := range sessions {
			all = append(all, r.marking(fmt.Sprint("s", i)))
		}
		held, others := r.line("m", all...)
		require.Equal(r, sessions, r.marked("m"))
		require.Zero(r, strays())
		for range 2 { // also in the second round, with the inbox of the first one
			for i, done := range others {
				last := held
				r.unlock(last)
				r.pass(10 * time.Millisecond)
				got := <-done
				require.NoError(r, got.err)
				require.Equal(r, local.PathQueued, got.hold.Path())
				held = got.hold
				require.Zero(r, strays(), "the last holder is idle")
				require.Len(r, r.Keys("m\x00turn/"), sessions, "and has an inbox")
				m := last.manager
				again := make(chan outcome, 1)
				go func() {
					h, err := m.Acquire(r.Context(), "m", exclusive())
					again <- outcome{h, err}
				}()
				others[i] = again
				r.pass(10 * time.Millisecond)
				require.Zero(r, strays())
			}
		}
		require.Equal(r, sessions, r.marked("m"))
		r.unlock(held)
		for _, done := range others {
			got := <-done
			require.NoError(r, got.err)
			r.unlock(got.hold)
		}
		r.pass(3 * time.Second)
		require.Empty(r, r.Keys("m"))
		for _, m := range all {
			require.Equal(r, nothing, m.Snapshot())
			require.Zero(r, m.client.Open().Watches)
		}
	})
}

// A queue was empty a moment ago, and is not any more. A marked entry assumes nothing.
func TestAMarkedEntryIsNotOptimistic(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.marking("a"), r.marking("b")
		r.unlock(a.lock("m", exclusive()))
		held := b.lock("m", exclusive())
		a.client.ResetCounts()
		done := a.start("m", exclusive())
		r.pass(10 * time.Millisecond)
		require.Equal(r, 1, a.client.Count(simetcd.Txn))
		require.Zero(r, workers())
		r.unlock(held)
		<-done.done
		r.unlock(done.hold)
	})
}

// The caller of a marked wait leaves at any moment before, while and after its turn comes. The next one in
// line is granted at once, be it of the same session or of another one.
func TestACallerLeavesAMarkedWaitWhileItsTurnComes(t *testing.T) {
	for _, same := range []bool{false, true} {
		granted, left := 0, 0
		for step := range 60 {
			simulate(t, func(r *rig) {
				a, b, c := r.marking("a"), r.marking("b"), r.marking("c")
				for _, m := range []*managed{a, b, c} {
					m.client.SetLatency(time.Millisecond, time.Millisecond)
				}
				held := a.lock("m", exclusive())
				first := b.start("m", exclusive())
				r.pass(20 * time.Millisecond)
				next := c
				if same {
					next = b
				}
				second := next.start("m", exclusive())
				r.pass(20 * time.Millisecond)
				require.Zero(r, workers())
				time.AfterFunc(time.Duration(step)*100*time.Microsecond, first.cancel)
				began := time.Now()
				r.unlock(held)
				<-first.done
				if first.err == nil {
					granted++
					r.unlock(first.hold)
				} else {
					left++
					require.ErrorIs(r, first.err, context.Canceled)
				}
				<-second.done
				require.NoError(r, second.err)
				require.Less(r, time.Since(began), 30*time.Millisecond, "step %d", step)
				r.unlock(second.hold)
				r.pass(3 * time.Second)
				require.Empty(r, r.Keys("m"))
				require.Equal(r, nothing, b.Snapshot())
			})
		}
		require.Positive(t, granted)
		require.Positive(t, left)
	}
}

func TestAMarkedWaitEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end func(r *rig, m *managed)
		by  error
	}{
		"with its key":     {func(r *rig, _ *managed) { r.DeleteKey(string(r.Keys("m/")[1].Key)) }, lockerr.ErrEvicted},
		"with its lease":   {func(_ *rig, m *managed) { m.present.End(errEnded) }, errEnded},
		"with its session": {func(_ *rig, m *managed) { m.close() }, lockerr.ErrSessionClosed},
		"by a drain":       {func(r *rig, m *managed) { require.NoError(r, m.Drain(r.Context())) }, local.ErrDrained},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				a, b, c2 := r.marking("a"), r.marking("b"), r.marking("c")
				held, others := r.line("m", a, b, c2)
				require.Zero(r, strays())
				c.end(r, b)
				require.ErrorIs(r, (<-others[0]).err, c.by)
				if b.present.Err() != nil {
					r.RevokeLease(b.present.ID())
				}
				r.unlock(held)
				began := time.Now()
				got := <-others[1]
				require.NoError(r, got.err)
				if b.present.Err() == nil { // else those behind settle
					require.Less(r, time.Since(began), 20*time.Millisecond, "it was told to look")
				}
				r.unlock(got.hold)
				r.pass(time.Minute)
				require.Empty(r, r.Keys("m"))
			})
		})
	}
}

// More local queues than are kept are idle at once, and each has an inbox.
func TestTheInboxesOfManyIdleNamesAreDeleted(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.marking("a"), r.marking("b")
		var held []*Hold
		for i := range local.MaxIdle + 10 {
			name := fmt.Sprint("m", i)
			held = append(held, a.lock(name, exclusive()))
			b.start(name, exclusive())
		}
		var all sync.WaitGroup
		for _, h := range held {
			all.Go(func() { assert.NoError(r, h.Release(r.Context())) })
		}
		all.Wait()
		require.Equal(r, local.MaxIdle, a.Snapshot().Idle)
		require.Greater(r, len(r.inboxesOf(a)), local.MaxIdle/2)
		r.pass(3 * time.Second)
		require.Equal(r, nothing, a.Snapshot())
		require.Empty(r, r.inboxesOf(a))
	})
}

// inboxesOf are the keys by which a session is told.
func (r *rig) inboxesOf(m *managed) (keys []string) {
	for _, kv := range r.Keys("") {
		if strings.HasSuffix(string(kv.Key), fmt.Sprintf("\x00turn/%x", int64(m.leaseID()))) {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

// etcd refuses the inbox of a caller that waits by itself. Its key is not marked.
func TestACallerWhoseInboxIsRefusedEntersUnmarked(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.marking("a"), r.marking("b")
		held := a.lock("m", exclusive())
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "b" && writes(c, "m\x00") {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		done := b.start("m", exclusive())
		r.pass(10 * time.Millisecond)
		require.Equal(r, 1, r.marked("m"))
		require.Len(r, r.Keys("m/"), 2)
		r.unlock(held)
		<-done.done
		require.NoError(r, done.err)
		r.unlock(done.hold)
		r.pass(3 * time.Second)
		require.Equal(r, nothing, b.Snapshot())
	})
}

// writes tells whether a request writes a key that begins so.
func writes(c simetcd.Call, prefix string) bool {
	req, ok := c.Req.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range req.Success {
		if put := op.GetRequestPut(); put != nil && strings.HasPrefix(string(put.Key), prefix) {
			return true
		}
	}
	return false
}

// The watch of an inbox is slow, and callers that leave do not wait for it. Nothing was sent for them.
func TestACallerDoesNotWaitForItsInbox(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.marking("a"), r.marking("b")
		held := a.lock("m", exclusive())
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			return simetcd.Action{DropRequest: c.Client == "b" && c.Kind == simetcd.Watch}
		})
		for range 5 {
			ctx, cancel := context.WithCancel(r.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			began := time.Now()
			_, err := b.Acquire(ctx, "m", exclusive())
			require.ErrorIs(r, err, context.Canceled)
			require.Less(r, time.Since(began), 25*time.Millisecond)
			r.pass(10 * time.Millisecond)
			require.Zero(r, b.client.Count(simetcd.Txn))
		}
		r.Intercept(nil)
		r.pass(10 * time.Second)
		require.Equal(r, nothing, b.Snapshot())
		done := b.start("m", exclusive())
		r.pass(time.Second)
		require.Equal(r, 2, r.marked("m"))
		r.unlock(held)
		<-done.done
		r.unlock(done.hold)
	})
}

// After a deadline the error names the holder, though the entry has waited for its message only. The last wait
// was long, so this one does not settle before.
func TestACallerOfAMarkedWaitGivesUp(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b, c := r.marking("a"), r.marking("b"), r.marking("c")
		held := a.lock("m", exclusive())
		before := b.wait(r.Context(), "m")
		r.unlock(held)
		r.unlock((<-before).hold)
		held, _ = r.line("m", a, c)
		ctx, cancel := context.WithTimeout(r.Context(), 1500*time.Millisecond)
		defer cancel()
		done := b.wait(ctx, "m")
		require.Zero(r, workers())
		var waited *WaitError
		require.ErrorAs(r, (<-done).err, &waited)
		require.Equal(r, held.Entry().Key, string(waited.Locked.By.KV.Key))
		require.True(r, waited.Locked.By.Holds)
		r.pass(time.Second)
		require.Len(r, r.Keys("m/"), 2)
		r.unlock(held)
		r.pass(time.Second)
	})
}
