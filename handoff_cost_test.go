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

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// crowding is a crowd of sessions that lock one name again and again.
type crowding struct {
	sessions int
	hold     time.Duration
	least    time.Duration // of a deadline
	most     time.Duration // of a deadline; 0 for none
	rest     time.Duration // at most, between two calls
	lasts    time.Duration
	workers  int // of each session; 0 stands for one
	opts     []MutexOption
}

// cost is what a crowd did, and what it sent for each grant.
type cost struct {
	grants                 int
	writes, reads, watches float64
}

func (c cost) String() string {
	return fmt.Sprintf("%d grants; each %.2f transactions, %.3f reads, %.2f watches", c.grants, c.writes, c.reads, c.watches)
}

// of runs a crowd, of which so many sessions mark entries.
func (u crowding) of(t *testing.T, marked int) (c cost) {
	simulate(t, func(w *world) {
		var mu sync.Mutex
		var all sync.WaitGroup
		until := time.Now().Add(u.lasts)
		for i := range u.sessions {
			crowd := int64(1 << 62)
			if i*marked/u.sessions != (i+1)*marked/u.sessions {
				crowd = 6
			}
			m := NewMutex(w.session(fmt.Sprint("c", i), sessionOptionFunc(func(c *sessionConfig) { c.Hooks.Crowd = crowd })), "m", u.opts...)
			work := func(rnd *rand.Rand) {
				for time.Now().Before(until) {
					ctx, cancel := context.WithCancel(w.ctx)
					if u.most > 0 {
						cancel()
						ctx, cancel = context.WithTimeout(w.ctx, u.least+time.Duration(rnd.Int64N(int64(u.most-u.least))))
					}
					l, err := m.Lock(ctx)
					cancel()
					if err == nil {
						mu.Lock()
						c.grants++
						mu.Unlock()
						time.Sleep(u.hold)
						require.NoError(w, l.Unlock(w.ctx))
					}
					if u.rest > 0 {
						time.Sleep(time.Duration(rnd.Int64N(int64(u.rest))))
					}
				}
			}
			for n := range max(u.workers, 1) {
				all.Go(func() { work(rand.New(rand.NewPCG(uint64(i), uint64(5+n)))) })
			}
		}
		all.Wait()
		n := float64(c.grants)
		for i := range u.sessions {
			client := w.Client(fmt.Sprint("c", i))
			c.writes += float64(client.Count(simetcd.Txn)) / n
			c.reads += float64(client.Count(simetcd.Range)) / n
			c.watches += float64(client.Count(simetcd.Watch)) / n
		}
	})
	return c
}

// Most waits are given up, because their deadlines are short. If they were marked, releases would be refused
// again and again.
func TestAStormOfShortWaitsLosesNoGrants(t *testing.T) {
	const ms = time.Millisecond
	for _, u := range []crowding{
		{sessions: 16, most: 60 * ms},
		{sessions: 32, most: 60 * ms},
		{sessions: 48, most: 60 * ms},
		{sessions: 16, most: 200 * ms},
		{sessions: 32, most: 200 * ms},
		{sessions: 16, least: 60 * ms, most: 100 * ms},
		{sessions: 16, least: 80 * ms, most: 140 * ms},
	} {
		u.hold, u.lasts = 5*ms, time.Duration(u.sessions)*200*ms
		t.Run(fmt.Sprint(u.sessions, " sessions wait from ", u.least, " to ", u.most), func(t *testing.T) {
			before, now := u.of(t, 0), u.of(t, u.sessions)
			t.Log(before, now)
			require.GreaterOrEqual(t, now.grants, before.grants*95/100)
		})
	}
}

// Marked entries that wait for seconds settle, and would send more than others.
func TestLongHoldsSendNoMore(t *testing.T) {
	const ms = time.Millisecond
	for _, u := range []crowding{
		{sessions: 10, hold: 20 * ms}, {sessions: 10, hold: 150 * ms}, {sessions: 10, hold: time.Second}, {sessions: 10, hold: 5 * time.Second},
		{sessions: 40, hold: 100 * ms}, {sessions: 60, hold: 60 * ms},
	} {
		t.Run(fmt.Sprint(u.sessions, " sessions hold for ", u.hold), func(t *testing.T) {
			u.lasts = 30 * time.Duration(u.sessions) * u.hold
			before, now := u.of(t, 0), u.of(t, u.sessions)
			t.Log(before, now)
			require.LessOrEqual(t, now.writes, before.writes+0.05)
			require.LessOrEqual(t, now.reads, before.reads+0.05)
			require.LessOrEqual(t, now.watches, before.watches+0.05)
		})
	}
}

// A queue may be now longer than the limit, and now shorter. It costs no more than with unmarked entries, which
// share a view of a short queue.
func TestACrowdAtTheLimitLosesNoGrants(t *testing.T) {
	for _, sessions := range []int{6, 7, 8, 9, 10} {
		for _, rest := range []time.Duration{0, 3 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
			t.Run(fmt.Sprint(sessions, " sessions rest up to ", rest), func(t *testing.T) {
				u := crowding{sessions: sessions, hold: 2 * time.Millisecond, rest: rest, lasts: 3 * time.Second}
				before, now := u.of(t, 0), u.of(t, u.sessions)
				t.Log(before, now)
				require.GreaterOrEqual(t, now.grants, before.grants*97/100)
			})
		}
	}
}

// In a long queue a lock and an unlock are two transactions, and the lists are read once in a while.
func TestACrowdSendsTwoRequestsForEachGrant(t *testing.T) {
	for sessions, reads := range map[int]float64{9: 0.17, 32: 0.05, 128: 0.1} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			u := crowding{sessions: sessions, hold: time.Millisecond, lasts: 20 * time.Second}
			now := u.of(t, sessions)
			t.Log(now)
			require.LessOrEqual(t, now.writes, 2.05)
			require.LessOrEqual(t, now.reads, reads)
			require.LessOrEqual(t, now.watches, 0.1)
		})
	}
}

// A session with other callers that wait leaves and enters again by one transaction.
func TestACrowdOfSessionsWithWaitersSendsOneWriteForEachGrant(t *testing.T) {
	for sessions, reads := range map[int]float64{9: 0.17, 32: 0.05} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			u := crowding{sessions: sessions, hold: time.Millisecond, lasts: 20 * time.Second, workers: 3, opts: []MutexOption{WithTimeSlice(0)}}
			now := u.of(t, sessions)
			t.Log(now)
			require.LessOrEqual(t, now.writes, 1.05)
			require.LessOrEqual(t, now.reads, reads)
			require.LessOrEqual(t, now.watches, 0.1)
		})
	}
}
