package test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
)

// crossRounds is how many sets each process locks.
const crossRounds = 12

// cross is the program of a process that locks random sets of names.
func cross(ctx context.Context, s *etcdlock.Session, names []string, out *json.Encoder) error {
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for range crossRounds {
		some := make([]string, 0, len(names))
		for _, i := range r.Perm(len(names))[:1+r.IntN(len(names))] {
			some = append(some, names[i])
		}
		set, err := etcdlock.LockAll(ctx, s, some...)
		if err != nil {
			return err
		}
		held := report{Event: "set", Names: some, Token: set.Token(), Since: time.Now()}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		held.At = time.Now()
		if err := set.Unlock(ctx); err != nil {
			return err
		}
		if err := out.Encode(held); err != nil {
			return err
		}
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	return out.Encode(report{Event: "through", At: time.Now()})
}

func TestEightProcessesLockRandomSetsWhileSomeAreKilled(t *testing.T) {
	f := newFixture(t)
	f.patience = 5 * time.Second // of those that are killed the lease expires
	names := []string{"a", "b", "c", "d", "e", "f"}
	var processes []*holder
	for range 8 {
		processes = append(processes, f.start(holderSettings{Crossing: names, TTL: 2 * time.Second}))
	}
	var mu sync.Mutex
	var sets []report
	through := 0
	var all sync.WaitGroup
	for i, p := range processes {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case r := <-p.reports:
					mu.Lock()
					if r.Event == "through" {
						through++
						mu.Unlock()
						return
					}
					sets = append(sets, r)
					mu.Unlock()
					if r.Event != "set" {
						t.Errorf("process %d: %+v", i, r)
						return
					}
				case <-time.After(long):
					t.Errorf("process %d is stuck after %d sets", i, n)
					return
				}
				if i < 2 && n == 3 {
					if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, 6, through)
	slices.SortFunc(sets, func(a, b report) int { return a.Since.Compare(b.Since) })
	for _, name := range names {
		var last report
		for _, r := range sets {
			if !slices.Contains(r.Names, name) {
				continue
			}
			require.False(t, r.Since.Before(last.At), "%q is held by two: %+v, %+v", name, last, r)
			require.Greater(t, r.Token, last.Token, "%q", name)
			last = r
		}
	}
	t.Logf("figure: %d sets by 8 processes, 2 of them killed", len(sets))
}

func TestTheRoundTripsOfLockAll(t *testing.T) {
	f := newFixture(t)
	var c counter
	s := f.session(f.client(c.options()...), 10*time.Second)
	other := f.session(f.client(), 10*time.Second)
	var set *etcdlock.LockSet
	var err error
	require.Equal(t, oneTxn, c.during(func() { set, err = etcdlock.LockAll(f.ctx(), s, "x", "y", "z") }), "free")
	require.NoError(t, err)
	require.Equal(t, oneTxn, c.during(func() { err = set.Unlock(f.ctx()) }), "unlock")
	require.NoError(t, err)
	held, err := etcdlock.LockAll(f.ctx(), other, "z", "x")
	require.NoError(t, err)
	before := f.revision()
	require.Equal(t, oneTxn, c.during(func() { _, err = etcdlock.TryLockAll(f.ctx(), s, "y", "x") }), "refused")
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.Equal(t, before, f.revision(), "something was written")
	var waiting <-chan outcome[*etcdlock.LockSet]
	inLine := c.during(func() {
		waiting = inBackground(func() (*etcdlock.LockSet, error) { return etcdlock.LockAll(f.ctx(), s, "x", "y", "z") })
		f.waitForKeys("x", 2)
		stillWaiting(t, waiting, 100*time.Millisecond)
	})
	handover := c.during(func() {
		require.NoError(t, held.Unlock(f.ctx()))
		set = granted(t, waiting).handle
	})
	t.Logf("figure: LockAll of three names, two of them taken: %d requests to be in line, %d at the handover", len(inLine), len(handover))
	require.LessOrEqual(t, len(inLine), 2)
	require.LessOrEqual(t, len(handover), 2)
	require.NoError(t, set.Unlock(f.ctx()))
}

func TestAnEtcdThatAllowsFewOperationsTellsHowManyNamesAreTooMany(t *testing.T) {
	f := newFixtureOf(t, &integration.ClusterConfig{Size: 1, UseBridge: true, MaxTxnOps: 8})
	s := f.session(f.client(), 10*time.Second)
	_, err := etcdlock.LockAll(f.ctx(), s, "1", "2", "3", "4", "5")
	require.ErrorIs(t, err, etcdlock.ErrTooManyNames)
	set, err := etcdlock.LockAll(f.ctx(), s, "1", "2", "3", "4")
	require.NoError(t, err)
	require.NoError(t, set.Unlock(f.ctx()))
}

func TestSixtyFourNamesAreWithinTheDefaultLimits(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 10*time.Second)
	var names []string
	for i := range 64 {
		names = append(names, string(rune('0'+i/10))+string(rune('0'+i%10)))
	}
	set, err := etcdlock.LockAll(f.ctx(), s, names...)
	require.NoError(t, err)
	waiting := inBackground(func() (*etcdlock.LockSet, error) { return etcdlock.LockAll(f.ctx(), s, names...) })
	f.waitForKeys("63", 2)
	_, err = etcdlock.TryLockAll(f.ctx(), s, names...)
	require.ErrorIs(t, err, etcdlock.ErrLocked)
	require.NoError(t, set.Unlock(f.ctx()))
	require.NoError(t, granted(t, waiting).handle.Unlock(f.ctx()))
	set, err = etcdlock.TryLockAll(f.ctx(), s, names...)
	require.NoError(t, err)
	require.NoError(t, set.Unlock(f.ctx()))
}
