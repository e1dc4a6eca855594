package elections

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// What a service needs of an election: work that is bounded, health, restarts, crashes.

// trap E7
func TestAProcessWhoseWorkDoesNotStopIsEnded(t *testing.T) {
	f := newFixture(t)
	const ttl, limit = 2 * time.Second, 500 * time.Millisecond
	f.Patience = ttl + cluster.ExpirySlack // its leases run out, as after any crash
	h := f.Start(cluster.HolderSettings{Election: "election", TTL: ttl, Deaf: limit})
	first := h.Next("held")
	next := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "b")
	f.WaitForKeys("election", 2)

	closed := time.Now()
	require.NoError(t, h.Stdin.Close())
	told := h.Next("told")
	stuck := h.Next("stuck")
	require.Equal(t, etcdlock.StuckExitCode, h.Exited())
	assert.GreaterOrEqual(t, stuck.At.Sub(closed), limit)
	second := cluster.Granted(t, next)
	t.Logf("figure: TTL %v: next leader %v after the work was told to stop", ttl, second.At.Sub(told.At))
	require.True(t, second.At.After(stuck.At))
	require.Less(t, second.At.Sub(closed), limit+ttl+cluster.ExpirySlack)
	require.Greater(t, second.Handle.Token(), first.Token)
	require.NoError(t, second.Handle.Resign(f.Ctx()))
}

// It could not be told in time; but it does not work on.
func TestAProcessThatWasStoppedAndIgnoresThatItsTermIsLostIsEndedAtOnce(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	f.Patience = ttl + cluster.ExpirySlack // its leases run out, as after any crash
	h := f.Start(cluster.HolderSettings{Election: "election", TTL: ttl, Deaf: time.Minute})
	h.Next("held")
	next := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), cluster.LongTTL), "election"), "b")
	f.WaitForKeys("election", 2)
	h.Signal(syscall.SIGSTOP)
	second := cluster.Granted(t, next)
	continued := time.Now()
	h.Signal(syscall.SIGCONT)
	require.Equal(t, etcdlock.StuckExitCode, h.Exited())
	require.Less(t, time.Since(continued), 20*time.Second, "its stop timeout is a minute")
	require.NoError(t, second.Handle.Resign(f.Ctx()))
}

func TestADeadLeaderIsReplacedLongBeforeItsTTLWithCrashDetection(t *testing.T) {
	f := newFixture(t)
	const ttl = 25 * time.Second
	a := f.Start(cluster.HolderSettings{Election: "election", TTL: ttl, Detect: true})
	first := a.Next("held")
	b := f.Start(cluster.HolderSettings{Election: "election", TTL: ttl, Detect: true})
	f.WaitForKeys("election", 2)
	time.Sleep(time.Second) // for the candidate to be connected
	stopped := time.Now()
	a.Signal(syscall.SIGSTOP) // is no crash
	select {
	case r := <-b.Reports:
		require.FailNow(t, "a leader that only stands still was replaced", "%+v after %v", r, time.Since(stopped))
	case <-time.After(2 * time.Second):
	}
	a.Signal(syscall.SIGCONT)

	killed := time.Now()
	a.Signal(syscall.SIGKILL)
	second := b.Next("held")
	t.Logf("figure: TTL %v: next leader %v after kill -9, with crash detection", ttl, second.At.Sub(killed))
	require.Less(t, second.At.Sub(killed), 15*time.Second) // 50 ms on a quiet machine
	require.Greater(t, second.Token, first.Token)
	b.Quit()
}

func TestAKilledLeaderThatIsStartedAgainGoesOnWithItsTerm(t *testing.T) {
	f := newFixture(t)
	const ttl = 8 * time.Second
	set := cluster.HolderSettings{Election: "election", TTL: ttl, LeaseFile: filepath.Join(t.TempDir(), "lease")}
	a := f.Start(set)
	first := a.Next("held")
	s := f.Session(f.Client(), cluster.LongTTL)
	leader, err := etcdlock.NewElection(s, "election").Leader(f.Ctx())
	require.NoError(t, err)
	next := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(s, "election"), "b")
	f.WaitForKeys("election", 2)

	killed := time.Now()
	a.Signal(syscall.SIGKILL)
	again := f.Start(set)
	second := again.Next("held")
	t.Logf("figure: leads again %v after kill -9", second.At.Sub(killed))
	require.Equal(t, first.Key, second.Key)
	require.Greater(t, second.Token, first.Token)
	now, err := etcdlock.NewElection(s, "election").Leader(f.Ctx())
	require.NoError(t, err)
	require.Equal(t, leader.CreateRevision, now.CreateRevision, "it is the same term")
	cluster.StillWaiting(t, next, ttl+cluster.ExpiryTime)

	// One that is still there is waited for, not joined.
	third := f.Start(set)
	select {
	case r := <-third.Reports:
		require.FailNow(t, "two processes on one lease", "%+v", r)
	case <-time.After(500 * time.Millisecond):
	}
	again.Quit() // in order: nothing is left for a successor
	require.NoError(t, cluster.Granted(t, next).Handle.Resign(f.Ctx()))
	third.Next("held")
	third.Quit()
}

func TestAnUnhealthyLeaderMakesRoomForAHealthyOne(t *testing.T) {
	f := newFixture(t)
	var h cluster.History
	sick := map[string]*atomic.Bool{"a": {}, "b": {}}
	led := make(chan string, 100)
	ctx, cancel := context.WithCancel(f.Ctx())
	defer cancel()
	ends := make(chan error, 2)
	for name, sick := range sick {
		s := f.Session(f.Client(), cluster.LongTTL)
		go func() {
			ends <- etcdlock.NewElection(s, "election").Run(ctx, name, func(ctx context.Context, term *etcdlock.Term) error {
				defer h.Begin(term.Err, s, term.Token())()
				led <- name
				<-ctx.Done()
				time.Sleep(50 * time.Millisecond) // the work ends after it is told to
				return nil
			}, etcdlock.WithStopTimeout(10*time.Second), etcdlock.WithHealthCheck(etcdlock.HealthCheck{Interval: 50 * time.Millisecond, Failures: 2, Check: func(context.Context) error {
				if sick.Load() {
					return errors.New("sick")
				}
				return nil
			}}))
		}()
	}
	other := map[string]string{"a": "b", "b": "a"}
	leader := cluster.Receive(t, led, "a leader")
	for range 5 {
		sick[leader].Store(true)
		next := cluster.Receive(t, led, "the next leader")
		require.Equal(t, other[leader], next)
		sick[leader].Store(false)
		leader = next
	}
	cancel()
	for range sick {
		require.ErrorIs(t, cluster.Receive(t, ends, "the end of Run"), context.Canceled)
	}
	h.AssertExclusive(t)
}

// trap E7
func TestALeaderWithoutProgressMakesRoom(t *testing.T) {
	f := newFixture(t)
	const ttl = 3 * time.Second
	told, let := make(chan error, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(f.Ctx())
	defer cancel()
	end := make(chan error, 1)
	go func() {
		end <- etcdlock.NewElection(f.Session(f.Client(), ttl), "election").Run(ctx, "a", func(ctx context.Context, term *etcdlock.Term) error {
			for range 10 {
				time.Sleep(100 * time.Millisecond)
				term.Progress()
			}
			<-ctx.Done()
			told <- context.Cause(ctx)
			<-let // hangs
			return nil
		}, etcdlock.WithProgress(time.Second))
	}()
	f.WaitForKeys("election", 1)
	next := cluster.CampaignInBackground(f.Ctx(), etcdlock.NewElection(f.Session(f.Client(), ttl), "election"), "b")
	require.ErrorIs(t, cluster.Receive(t, told, "the end of the context"), etcdlock.ErrNoProgress)
	at := time.Now()
	second := cluster.Granted(t, next)
	require.Less(t, second.At.Sub(at), ttl+cluster.ExpirySlack, "by the lease")
	close(let)
	f.WaitForKeys("election", 2) // it stands again
	cancel()
	require.ErrorIs(t, cluster.Receive(t, end, "the end of Run"), context.Canceled)
	require.NoError(t, second.Handle.Resign(f.Ctx()))
}
