package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// promptly is the longest delay of a grant. It is less than each time after which a wait reads by itself,
// which would hide that its watch reported nothing.
const promptly = 400 * time.Millisecond

// throng is a queue with many contenders of different kinds.
type throng struct {
	*rig
	until  time.Time
	marked int // in so many of four rounds an entry is marked

	mu     sync.Mutex
	there  map[string]int64    // the entries, by key: their CreateRevisions
	first  map[int64]time.Time // since when an entry is the oldest
	holder int64
	grants int
}

func newThrong(r *rig, lasts time.Duration) *throng {
	th := &throng{rig: r, until: time.Now().Add(lasts), there: map[string]int64{}, first: map[int64]time.Time{}}
	r.OnEvent(th.note)
	return th
}

func (th *throng) note(_ int64, ev *mvccpb.Event) {
	th.mu.Lock()
	defer th.mu.Unlock()
	if !strings.HasPrefix(string(ev.Kv.Key), "q/") {
		return // an inbox
	}
	if ev.Type == clientv3.EventTypeDelete {
		delete(th.there, string(ev.Kv.Key))
	} else {
		th.there[string(ev.Kv.Key)] = ev.Kv.CreateRevision
	}
	oldest := int64(0)
	for _, rev := range th.there {
		if oldest == 0 || rev < oldest {
			oldest = rev
		}
	}
	if _, known := th.first[oldest]; !known {
		th.first[oldest] = time.Now()
	}
}

func (th *throng) granted(e *Entry) {
	th.mu.Lock()
	defer th.mu.Unlock()
	require.Zero(th, th.holder, "two hold")
	th.holder = e.CreateRevision
	turn, ok := th.first[e.CreateRevision]
	require.True(th, ok, "somebody older is there")
	require.Less(th, time.Since(turn), promptly, "its turn had come long before")
	th.grants++
}

func (th *throng) over() {
	th.mu.Lock()
	defer th.mu.Unlock()
	th.holder = 0
}

// take enters and leaves again and again, with and without pauses. Waits are broken off and begun again, or
// given up. If mixed, the entries are of several kinds.
func (th *throng) take(q *Queue, rnd *rand.Rand) {
	defer q.Close()
	lease, mixed := th.GrantLease(time.Hour), rnd.IntN(3) == 0
	within := func(most time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeout(th.ctx, time.Duration(rnd.Int64N(int64(most))))
	}
	for time.Now().Before(th.until) {
		pause := 30 * time.Millisecond
		if rnd.IntN(20) == 0 {
			pause = 2 * Resting
		}
		ctx, cancel := within(pause)
		if q.Viewed() {
			q.Rest(ctx.Done())
		} else if <-ctx.Done(); pause > Resting {
			q.Close()
		}
		cancel()
		w := Want{Lease: lease, Value: "v"}
		if mixed {
			w.Candidate, w.Keeps, w.Slot = rnd.IntN(3) == 0, rnd.IntN(3) == 0, wire.Slot{N: rnd.IntN(2)}
		}
		try := rnd.IntN(6) == 0
		if !try && th.marked > 0 && rnd.IntN(4) < th.marked {
			w.Candidate, w.Keeps, w.Slot = false, false, wire.MarkedSlot(rnd.IntN(2))
		}
		e := th.in(q, w, try)
		if e == nil {
			continue
		}
		if th.wait(q, e, rnd) {
			th.granted(e)
			kept := make(chan struct{})
			if rnd.IntN(3) == 0 {
				close(kept)
			}
			ctx, cancel := within(10 * time.Millisecond)
			require.ErrorIs(th, q.stay(ctx, e, kept, func() {}), context.DeadlineExceeded)
			cancel()
			th.over()
		}
		require.NoError(th, q.Leave(th.ctx, e, false))
	}
}

// in enters. It returns nil if a try was refused.
func (th *throng) in(q *Queue, w Want, try bool) *Entry {
	enter := q.Enter
	if try {
		enter = q.TryEnter
	}
	e, _, err := enter(th.ctx, w)
	if try && errors.Is(err, ErrTaken) {
		return nil
	}
	require.NoError(th, err)
	return e
}

// wait returns false if the wait was given up.
func (th *throng) wait(q *Queue, e *Entry, rnd *rand.Rand) bool {
	for {
		ctx, cancel := context.WithCancel(th.ctx)
		if rnd.IntN(3) == 0 {
			time.AfterFunc(time.Duration(rnd.IntN(40_000))*time.Microsecond, cancel)
		}
		_, err := q.Await(ctx, e)
		cancel()
		if err == nil {
			return true
		}
		require.ErrorIs(th, err, context.Canceled)
		if rnd.IntN(4) == 0 {
			return false
		}
	}
}

// disturb breaks watches, and compacts.
func (th *throng) disturb(rnd *rand.Rand) {
	for time.Now().Before(th.until) {
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		n := rnd.IntN(4)
		if n%2 == 0 {
			th.Compact(th.Revision())
		}
		if n > 1 {
			th.CutWatches()
		} else {
			th.CancelWatches("for a reason")
		}
	}
}

// pass creates and deletes keys of another client.
func (th *throng) pass(rnd *rand.Rand) {
	lease := th.GrantLease(time.Hour)
	for i := 0; time.Now().Before(th.until); i++ {
		key := fmt.Sprintf("q/%x", 0xf000+i%3)
		th.PutKey(key, "", lease)
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
		th.DeleteKey(key)
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
	}
}

// An entry is granted when it is admitted, no other one is, and its watch reports this before a reading
// would. This holds whatever is kept from wait to wait.
func TestWhoseTurnItIsHearsOfIt(t *testing.T) {
	grants := 0
	for seed := range uint64(12) {
		grants += throngs(t, seed, 0)
	}
	require.Greater(t, grants, 5000)
}

// The same where entries are marked: all of them, or some.
func TestWhoseTurnItIsIsTold(t *testing.T) {
	grants := 0
	for seed := range uint64(12) {
		grants += throngs(t, seed, 2+2*int(seed/4%2))
	}
	require.Greater(t, grants, 5000)
}

// throngs plays the schedule of a seed, and returns the number of grants.
func throngs(t *testing.T, seed uint64, marked int) (grants int) {
	simulate(t, func(r *rig) {
		rnd, th := rand.New(rand.NewPCG(seed, 0)), newThrong(r, 15*time.Second)
		th.marked = marked
		var all sync.WaitGroup
		for i := range 2 + rnd.IntN(9) {
			name := fmt.Sprint("c", i)
			q := r.queue(name)
			if rnd.IntN(2) == 0 {
				q, _ = r.leanQueue(name)
			}
			q.shortQueue, q.prefetch = []int{-1, 1, ShortQueue}[rnd.IntN(3)], []int64{1, 3, peek}[rnd.IntN(3)]
			own := rand.New(rand.NewPCG(seed, uint64(i+1)))
			all.Go(func() { th.take(q, own) })
		}
		switch seed % 4 {
		case 1:
			all.Go(func() { th.disturb(rnd) })
		case 2:
			all.Go(func() { th.pass(rnd) })
		case 3: // answers are lost
			r.Intercept(func(c simetcd.Call) simetcd.Action {
				if c.Kind == simetcd.Txn && c.N%40 == 0 {
					return simetcd.Action{ErrAfter: rpctypes.ErrGRPCLeaderChanged}
				}
				return simetcd.Action{}
			})
		}
		all.Wait()
		grants = th.grants
	})
	return grants
}
