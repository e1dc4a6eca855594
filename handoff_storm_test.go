// What a crowd sends, and how long it pauses, is the same with the race detector, and takes ten times as long.

//go:build !race && !lockorder

package etcdlock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// storming is a crowd with short deadlines: callers give up and come again at once.
type storming struct {
	sessions  int
	guests    int // sessions that end after some attempts, and others begin
	strangers int // clients of etcd's own library
	evicts    bool
	least     time.Duration // of a deadline
	most      time.Duration
}

// pauses has the longest time in which a name was free though a caller waited for it.
type pauses struct {
	mu      sync.Mutex
	waiting int
	holding int
	since   time.Time // when the present pause began
	until   time.Time // later changes do not count
	longest time.Duration
}

// note takes in that callers wait and hold, or do so no more.
func (p *pauses) note(waiting, holding int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, before := time.Now(), p.waiting > 0 && p.holding == 0
	if before && now.Before(p.until) {
		p.longest = max(p.longest, now.Sub(p.since))
	}
	p.waiting, p.holding = p.waiting+waiting, p.holding+holding
	if !before {
		p.since = now
	}
}

// attempt is one call with a deadline. lock returns the function that unlocks.
func (p *pauses) attempt(w *world, lock func(context.Context) (func() error, error), patience time.Duration) {
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	p.note(1, 0)
	unlock, err := lock(ctx)
	if err != nil {
		p.note(-1, 0)
		return
	}
	p.note(-1, 1)
	time.Sleep(time.Millisecond)
	p.note(0, -1)
	require.NoError(w, unlock())
}

// of returns the longest pause of a storm. Sessions mark their entries in queues that are longer than crowd.
func (u storming) of(t *testing.T, crowd int64, seed uint64) time.Duration {
	p := pauses{until: time.Now()}
	simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
		p.until = time.Now().Add(5 * time.Second)
		var all sync.WaitGroup
		for i := range u.sessions + u.guests + u.strangers {
			rnd, c := rand.New(rand.NewPCG(uint64(i), seed)), w.Client(fmt.Sprint("c", i))
			begin := func() (lock func(context.Context) (func() error, error), end func()) {
				if i >= u.sessions+u.guests {
					return strangerOn(w, c.Client)
				}
				hook := sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = crowd })
				s, err := NewSession(w.ctx, c.Client, WithTTL(ttl), renewOn(c), writeOn(c), hook)
				require.NoError(w, err)
				m := NewMutex(s, "m")
				lock = func(ctx context.Context) (func() error, error) {
					l, err := m.Lock(ctx)
					return func() error { return l.Unlock(w.ctx) }, err
				}
				return lock, func() { require.NoError(w, s.Close(w.ctx)) }
			}
			all.Go(func() {
				lock, end := begin()
				for n := 1; time.Now().Before(p.until); n++ {
					p.attempt(w, lock, u.least+time.Duration(rnd.Int64N(int64(u.most-u.least))))
					if guest := i >= u.sessions && i < u.sessions+u.guests; guest && n%20 == 0 {
						end()
						lock, end = begin()
					}
				}
				end()
			})
		}
		if u.evicts {
			evictWaiters(w, p.until)
		}
		all.Wait()
	})
	return p.longest
}

// strangerOn begins a session of etcd's own library.
func strangerOn(w *world, c *clientv3.Client) (lock func(context.Context) (func() error, error), end func()) {
	s, err := concurrency.NewSession(c)
	require.NoError(w, err)
	m := concurrency.NewMutex(s, "m")
	lock = func(ctx context.Context) (func() error, error) {
		return func() error { return m.Unlock(w.ctx) }, m.Lock(ctx)
	}
	return lock, func() { require.NoError(w, s.Close()) }
}

// evictWaiters deletes the key of a random waiter every 30 ms. It deletes none of a holder.
func evictWaiters(w *world, until time.Time) {
	rnd, c := rand.New(rand.NewPCG(1, 2)), w.Client("admin")
	stands := func(kv *mvccpb.KeyValue) clientv3.Cmp {
		return clientv3.Compare(clientv3.CreateRevision(string(kv.Key)), "=", kv.CreateRevision)
	}
	for time.Now().Before(until) {
		time.Sleep(30 * time.Millisecond)
		queue, err := c.Get(w.ctx, "m/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
		require.NoError(w, err)
		if len(queue.Kvs) > 1 {
			waiter := queue.Kvs[1+rnd.IntN(len(queue.Kvs)-1)]
			_, err = c.Txn(w.ctx).If(stands(queue.Kvs[0]), stands(waiter)).Then(clientv3.OpDelete(string(waiter.Key))).Commit()
			require.NoError(w, err)
		}
	}
}

// In a storm the name is never free for long. No entry has to settle. A client of etcd's own library may need 100 ms,
// because etcd serves its watch by a tick.
func TestAStormHasNoLongPause(t *testing.T) {
	const ms = time.Millisecond
	for what, u := range map[string]storming{
		"deadlines":             {sessions: 24, most: 200 * ms},
		"longer deadlines":      {sessions: 24, least: 50 * ms, most: 400 * ms},
		"guests":                {sessions: 12, guests: 12, most: 200 * ms},
		"guests and evictions":  {sessions: 12, guests: 12, most: 200 * ms, evicts: true},
		"strangers":             {sessions: 21, strangers: 3, most: 400 * ms},
		"all":                   {sessions: 12, guests: 9, strangers: 3, most: 200 * ms, evicts: true},
		"all, longer deadlines": {sessions: 12, guests: 9, strangers: 3, least: 100 * ms, most: 500 * ms, evicts: true},
	} {
		for way, crowd := range map[string]int64{"": 6, ", all entries marked": -1} {
			t.Run(what+way, func(t *testing.T) {
				longest := u.of(t, crowd, 1)
				t.Log(longest)
				if u.strangers == 0 {
					require.Less(t, longest, 100*ms)
				}
				require.Less(t, longest, 250*ms)
			})
		}
	}
}
