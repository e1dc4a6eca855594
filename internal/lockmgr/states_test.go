package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/states"
)

// edgesOf are the edges of a table, as "from to".
func edgesOf[S comparable](t *states.Table[S]) map[string]bool {
	all := make(map[string]bool)
	for from, next := range t.Edges {
		for _, to := range next {
			all[fmt.Sprint(from, " ", to)] = true
		}
	}
	return all
}

// try is a call in a goroutine of its own.
type try struct {
	cancel context.CancelFunc
	done   chan struct{}
	hold   *Hold
	err    error
}

// start begins to acquire a name.
func (m *managed) start(name string, of local.Call) *try {
	ctx, cancel := context.WithCancel(m.rig.Context())
	c := &try{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.hold, c.err = m.Acquire(ctx, name, of)
	}()
	m.rig.pass(time.Millisecond)
	return c
}

// refuse makes etcd refuse the transactions that delete a key of a client.
func (r *rig) refuse(client string) {
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && (c.Kind == simetcd.Txn || c.Kind == simetcd.Delete) {
			return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
		}
		return simetcd.Action{}
	})
}

var errEnded = errors.New("the test ends the lease")

// scripts take, together, each edge of each table.
var scripts = map[string]func(r *rig, a, b *managed){
	"a free lock": func(r *rig, a, _ *managed) {
		r.unlock(a.lock("m", exclusive()))
	},
	"a try that is refused": func(r *rig, a, b *managed) {
		h := b.lock("m", exclusive())
		try := exclusive()
		try.Try = true
		_, err := a.Acquire(r.Context(), "m", try)
		require.Error(r, err)
		r.unlock(h)
	},
	"a wait for another session, and a handover after the slice": func(r *rig, a, b *managed) {
		h := b.lock("m", exclusive())
		first, second := a.start("m", exclusive()), a.start("m", exclusive())
		r.pass(time.Second)
		r.unlock(h)
		<-first.done
		r.pass(time.Second)
		r.unlock(first.hold)
		<-second.done
		second.hold.Abandon()
	},
	"a release that enters again": func(r *rig, _, _ *managed) {
		h, c, b := r.aboutToEnterAgain()
		r.unlock(h)
		<-b.done
		r.unlock(b.hold)
		<-c.done
		r.unlock(c.hold)
	},
	"a waiter that gives up": func(r *rig, a, b *managed) {
		h := b.lock("m", exclusive())
		c := a.start("m", exclusive())
		r.pass(time.Second)
		c.cancel()
		<-c.done
		r.pass(time.Second)
		r.unlock(h)
	},
	"a call that is cancelled during its first request": func(r *rig, a, _ *managed) {
		r.Client("a").SetLatency(50*time.Millisecond, 50*time.Millisecond)
		c := a.start("m", exclusive())
		other := a.start("m", exclusive())
		c.cancel()
		<-c.done
		r.pass(20 * time.Millisecond) // the worker asks for the outcome
		other.cancel()
		<-other.done
	},
	"an abandoned lock with a waiter": func(r *rig, a, _ *managed) {
		h := a.lock("m", exclusive())
		r.pass(time.Second)
		c := a.start("m", exclusive())
		h.Abandon()
		<-c.done
		r.unlock(c.hold)
	},
	"a lease that is lost during a wait": func(r *rig, a, b *managed) {
		h := b.lock("m", exclusive())
		c := a.start("m", exclusive())
		r.pass(time.Second)
		a.present.End(errEnded)
		<-c.done
		r.pass(time.Second)
		r.unlock(h)
	},
	"a place that is lost, with a waiter under the next lease": func(r *rig, a, b *managed) {
		h := b.lock("m", exclusive())
		c := a.start("m", exclusive())
		r.pass(time.Second)
		former := a.present
		a.lend()
		next := a.start("m", exclusive())
		former.End(errEnded)
		<-c.done
		require.Error(r, c.err)
		r.pass(time.Second)
		r.unlock(h)
		<-next.done
		r.unlock(next.hold)
	},
	"a kept key": func(r *rig, a, _ *managed) {
		keeps := exclusive()
		keeps.Terms.Retention = time.Second
		r.unlock(a.lock("m", keeps))
		r.unlock(a.lock("m", keeps))
		r.pass(2 * time.Second)
		r.unlock(a.lock("m", keeps))
		a.present.End(errEnded)
	},
	"a deleted key": func(r *rig, a, _ *managed) {
		h := a.lock("m", exclusive())
		r.pass(time.Second)
		r.DeleteKey(h.Entry().Key)
		r.pass(time.Second)
		require.Error(r, h.Err())
	},
	"an upgrade": func(r *rig, a, _ *managed) {
		h, err := a.lock("m", shared()).Upgrade(r.Context())
		require.NoError(r, err)
		r.unlock(h)
	},
	"a release during an upgrade": func(r *rig, a, b *managed) {
		other, h := b.lock("m", shared()), a.lock("m", shared())
		go func() { _, _ = h.Upgrade(r.Context()) }()
		r.pass(time.Second)
		r.unlock(h)
		r.unlock(other)
	},
	"a deleted key during an upgrade": func(r *rig, a, b *managed) {
		other, h := b.lock("m", shared()), a.lock("m", shared())
		go func() { _, _ = h.Upgrade(r.Context()) }()
		r.pass(time.Second)
		r.DeleteKey(h.Entry().Key)
		r.pass(time.Second)
		r.unlock(other)
	},
	"a deletion that etcd refuses": func(r *rig, a, _ *managed) {
		h := a.lock("m", exclusive())
		r.refuse("a")
		require.Error(r, h.Release(r.Context()))
		r.Intercept(nil)
	},
	"a deletion that etcd refuses after a loss": func(r *rig, a, _ *managed) {
		h, err := a.AcquireAll(r.Context(), []string{"m", "n"}, exclusive())
		require.NoError(r, err)
		r.pass(time.Second)
		r.refuse("a")
		r.DeleteKey(h.EntryOf("m").Key)
		r.pass(time.Second)
		r.Intercept(nil)
	},
}

// Each legal edge of each state machine is taken, and an edge that is not legal panics.
func TestEachChangeOfStateIsTaken(t *testing.T) {
	var mu sync.Mutex
	taken := make(map[string]map[string]bool)
	before := states.Taken
	states.Taken = func(of string, from, to any) {
		mu.Lock()
		defer mu.Unlock()
		if taken[of] == nil {
			taken[of] = make(map[string]bool)
		}
		taken[of][fmt.Sprint(from, " ", to)] = true
	}
	defer func() { states.Taken = before }()
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				script(r, r.manager("a"), r.manager("b"))
				r.pass(time.Minute)
			})
		})
	}
	assert.Equal(t, edgesOf(&local.Phases), taken[local.Phases.Of])
	assert.Equal(t, edgesOf(&local.Drivers), taken[local.Drivers.Of])
	assert.Equal(t, edgesOf(&local.Ownerships), taken[local.Ownerships.Of])
}
