package sweeper

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a sweeper in virtual time. Its requests are noted.
type rig struct {
	*testing.T
	*Sweeper
	names *names.Table
	life  context.Context
	etcd  *simetcd.Server

	mu      sync.Mutex
	sweeps  [][]queue.Swept
	stands  map[string]bool
	lasts   time.Duration // of each request
	settled int
}

// simulate runs a test, and ends the sweeper afterwards.
func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancelCause(context.Background())
		r := &rig{T: t, names: names.New(), life: life, etcd: simetcd.New(simetcd.Config{Seed: 1}), stands: make(map[string]bool)}
		defer r.etcd.Close()
		r.Sweeper = New(Config{Life: life, Names: r.names, Sweep: r.sweep, Settled: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.settled++
		}})
		test(r)
		r.Close()
		end(lockerr.ErrSessionClosed)
		r.Wait()
	})
}

func (r *rig) sweep(_ context.Context, all []queue.Swept) error {
	time.Sleep(r.lasts)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range all {
		all[i].Deleted = r.stands[all[i].Key]
		delete(r.stands, all[i].Key)
	}
	r.sweeps = append(r.sweeps, append([]queue.Swept(nil), all...))
	return nil
}

// lend grants a lease.
func (r *rig) lend() *lease.Lease {
	l, err := lease.Grant(r.life, r.life, lease.Config{
		Client: r.etcd.Client("a").Lease, TTL: time.Hour, Clock: func() time.Duration { return 0 },
	}, new(clientv3.LeaseID))
	require.NoError(r, err)
	return l
}

func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sweeps)
}

func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// The keys of one transaction come together, so none of them stands for long once one was found.
func TestTheOtherKeysOfATransactionAreSweptOnceOneWasFound(t *testing.T) {
	for name, find := range map[string]func(r *rig, ls *lease.Lease){
		"by a sweep": func(r *rig, ls *lease.Lease) {
			calm := r.Urge(ls, "x", wire.Slot{}) // x alone is swept often
			r.Cleanup(calm)
		},
		"by a sweep, after a later doubt about the key": func(r *rig, ls *lease.Lease) {
			r.Suspect(ls, "x", wire.Slot{}, 1, First)
			r.Cleanup(r.Urge(ls, "x", wire.Slot{}))
		},
		"by a call": func(r *rig, ls *lease.Lease) {
			time.AfterFunc(7*time.Second, func() { r.Found(ls, "x", wire.Slot{}) })
			r.names.HoldAll([]string{"x"}, []wire.Slot{{}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				ls := r.lend()
				r.SuspectAll(ls, []string{"x", "y", "z"}, make([]wire.Slot, 3), Many, First)
				find(r, ls)
				r.pass(7*time.Second - time.Millisecond)
				r.mu.Lock()
				for _, name := range []string{"y", "z"} {
					r.stands[wire.SlotKey(name, ls.ID(), wire.Slot{})] = true
				}
				r.stands[wire.SlotKey("x", ls.ID(), wire.Slot{})] = name != "by a call"
				r.mu.Unlock()
				r.pass(urgent + 3*pace)
				for _, name := range []string{"y", "z"} {
					require.False(r, r.stands[wire.SlotKey(name, ls.ID(), wire.Slot{})], name)
				}
			})
		})
	}
}

// trap A4
func TestAKeyIsSweptUntilNoWriteCanComeAnyMore(t *testing.T) {
	simulate(t, func(r *rig) {
		ls := r.lend()
		r.Suspect(ls, "m", wire.Slot{}, Many, First)
		r.pass(First - time.Millisecond)
		require.Zero(r, r.count())
		r.pass(time.Millisecond)
		require.Equal(r, 1, r.count())
		r.pass(LateEffect + time.Second)
		require.Equal(r, Counts{Uncertain: 1, Running: true}, r.Counts(), "watched")
		require.Equal(r, 1, r.settled)
		_, used := r.names.Any()
		require.False(r, used)
		for _, late := range LateSweeps {
			before := r.count()
			r.pass(late)
			require.Greater(r, r.count(), before)
		}
		require.Zero(r, r.Counts())
		require.Less(r, r.count(), 20)
	})
}

func TestTheOneWriteThatWasToComeEndsTheDoubt(t *testing.T) {
	simulate(t, func(r *rig) {
		ls := r.lend()
		r.stands[wire.Key("m", ls.ID())] = true
		r.Suspect(ls, "m", wire.Slot{}, 1, Soon)
		r.pass(Soon)
		require.Zero(r, r.Counts())
		require.Equal(r, 1, r.settled)
	})
}

func TestAKeyIsLeftAloneWhileItsSlotIsInUse(t *testing.T) {
	simulate(t, func(r *rig) {
		ls := r.lend()
		r.lasts = 20 * time.Millisecond
		r.names.HoldAll([]string{"m"}, []wire.Slot{{}})
		r.Suspect(ls, "m", wire.Slot{}, Many, First)
		require.Zero(r, r.Unsettled())
		r.pass(time.Minute)
		require.Zero(r, r.count())
		r.names.Drop("m", wire.Slot{})
		r.Dropped("m", wire.Slot{})
		require.Equal(r, 1, r.Unsettled())
		r.pass(First + r.lasts/2)
		held, swept := r.names.Hold("m", wire.Slot{})
		require.False(r, held)
		<-swept
		require.Equal(r, 1, r.count())
	})
}

func TestKeysGoWithTheirLease(t *testing.T) {
	for name, lasts := range map[string]time.Duration{"between two sweeps": 0, "during a sweep": time.Second} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				r.lasts = lasts
				ls, next := r.lend(), r.lend()
				for i := range 100 {
					r.Suspect(ls, fmt.Sprint("m", i), wire.Slot{}, Many, First)
				}
				r.Suspect(next, "n", wire.Slot{}, Many, First)
				r.pass(First + lasts/2)
				ls.End(lockerr.Lost(lockerr.ErrRevoked))
				r.LeaseEnded(ls.ID())
				r.Suspect(ls, "m", wire.Slot{}, Many, First)
				require.Equal(r, Counts{Uncertain: 1, Suspected: 1, Running: true}, r.Counts(), "of the other lease")
				name, _ := r.names.Any()
				require.Equal(r, "n", name)
				r.pass(lasts)
				for i := range 100 {
					require.False(r, r.names.Busy(fmt.Sprint("m", i), wire.Slot{}))
				}
			})
		})
	}
}

func TestManyKeysAreSweptTogether(t *testing.T) {
	simulate(t, func(r *rig) {
		ls := r.lend()
		for i := range 10 * queue.MostSwept {
			r.Suspect(ls, fmt.Sprint("m", i), wire.Slot{}, Many, First)
		}
		require.Equal(r, 10*queue.MostSwept, r.Unsettled())
		r.pass(First)
		require.Equal(r, 10, r.count())
	})
}

func TestAKeyIsSweptOftenWhileAnEntryWaitsBehindIt(t *testing.T) {
	simulate(t, func(r *rig) {
		ls := r.lend()
		r.Suspect(ls, "m", wire.Slot{}, Many, First)
		r.pass(5 * time.Second) // the pauses are long by now
		before := r.count()
		calm := r.Urge(ls, "m", wire.Slot{})
		r.pass(time.Second)
		require.GreaterOrEqual(r, r.count()-before, int(time.Second/urgent)-1)
		calm()
		before = r.count()
		r.pass(time.Second)
		require.LessOrEqual(r, r.count()-before, 1)
	})
}
