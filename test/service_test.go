package test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// What a service needs of an election: work that is bounded, health, restarts, crashes.

// exited waits for the process's end, and returns its code.
func (h *holder) exited() int {
	h.t.Helper()
	err := receive(h.t, h.waited, "the process's end")
	h.waited <- err
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(h.t, err, &exit)
	}
	return h.cmd.ProcessState.ExitCode()
}

// trap E7
func TestAProcessWhoseWorkDoesNotStopIsEnded(t *testing.T) {
	f := newFixture(t)
	const ttl, limit = 2 * time.Second, 500 * time.Millisecond
	f.patience = ttl + expirySlack // its leases run out, as after any crash
	h := f.start(holderSettings{Election: "election", TTL: ttl, Deaf: limit})
	first := h.next("held")
	next := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), ttl), "election"), "b")
	f.waitForKeys("election", 2)

	require.NoError(t, h.stdin.Close())
	told := h.next("told")
	stuck := h.next("stuck")
	require.Equal(t, etcdlock.StuckExitCode, h.exited())
	assert.GreaterOrEqual(t, stuck.At.Sub(told.At), limit)
	second := granted(t, next)
	t.Logf("figure: TTL %v: next leader %v after the work was told to stop", ttl, second.at.Sub(told.At))
	require.True(t, second.at.After(stuck.At))
	require.Less(t, second.at.Sub(told.At), limit+ttl+handoverBound)
	require.Greater(t, second.handle.Token(), first.Token)
	require.NoError(t, second.handle.Resign(f.ctx()))
}

// It could not be told in time; but it does not work on.
func TestAProcessThatWasStoppedAndIgnoresThatItsTermIsLostIsEndedAtOnce(t *testing.T) {
	f := newFixture(t)
	const ttl = 2 * time.Second
	f.patience = ttl + expirySlack // its leases run out, as after any crash
	h := f.start(holderSettings{Election: "election", TTL: ttl, Deaf: time.Minute})
	h.next("held")
	next := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), ttl), "election"), "b")
	f.waitForKeys("election", 2)
	h.signal(syscall.SIGSTOP)
	second := granted(t, next)
	continued := time.Now()
	h.signal(syscall.SIGCONT)
	require.Equal(t, etcdlock.StuckExitCode, h.exited())
	require.Less(t, time.Since(continued), time.Second)
	require.NoError(t, second.handle.Resign(f.ctx()))
}

func TestADeadLeaderIsReplacedLongBeforeItsTTLWithCrashDetection(t *testing.T) {
	f := newFixture(t)
	const ttl = 10 * time.Second
	a := f.start(holderSettings{Election: "election", TTL: ttl, Detect: true})
	first := a.next("held")
	b := f.start(holderSettings{Election: "election", TTL: ttl, Detect: true})
	f.waitForKeys("election", 2)
	time.Sleep(time.Second) // for the candidate to be connected
	stopped := time.Now()
	a.signal(syscall.SIGSTOP) // is no crash
	select {
	case r := <-b.reports:
		require.FailNow(t, "a leader that only stands still was replaced", "%+v after %v", r, time.Since(stopped))
	case <-time.After(2 * time.Second):
	}
	a.signal(syscall.SIGCONT)

	killed := time.Now()
	a.signal(syscall.SIGKILL)
	second := b.next("held")
	t.Logf("figure: TTL %v: next leader %v after kill -9, with crash detection", ttl, second.At.Sub(killed))
	require.Less(t, second.At.Sub(killed), 2*time.Second) // 50 ms on a quiet machine
	require.Greater(t, second.Token, first.Token)
	b.quit()
}

func TestAKilledLeaderThatIsStartedAgainGoesOnWithItsTerm(t *testing.T) {
	f := newFixture(t)
	const ttl = 5 * time.Second
	set := holderSettings{Election: "election", TTL: ttl, LeaseFile: filepath.Join(t.TempDir(), "lease")}
	a := f.start(set)
	first := a.next("held")
	s := f.session(f.client(), ttl)
	leader, err := etcdlock.NewElection(s, "election").Leader(f.ctx())
	require.NoError(t, err)
	next := campaignInBackground(f.ctx(), etcdlock.NewElection(s, "election"), "b")
	f.waitForKeys("election", 2)

	killed := time.Now()
	a.signal(syscall.SIGKILL)
	again := f.start(set)
	second := again.next("held")
	t.Logf("figure: leads again %v after kill -9", second.At.Sub(killed))
	require.Equal(t, first.Key, second.Key)
	require.Greater(t, second.Token, first.Token)
	now, err := etcdlock.NewElection(s, "election").Leader(f.ctx())
	require.NoError(t, err)
	require.Equal(t, leader.CreateRevision, now.CreateRevision, "it is the same term")
	stillWaiting(t, next, ttl+expirySlack)

	// One that is still there is waited for, not joined.
	third := f.start(set)
	select {
	case r := <-third.reports:
		require.FailNow(t, "two processes on one lease", "%+v", r)
	case <-time.After(500 * time.Millisecond):
	}
	again.quit() // in order: nothing is left for a successor
	require.NoError(t, granted(t, next).handle.Resign(f.ctx()))
	third.next("held")
	third.quit()
}

func TestAnUnhealthyLeaderMakesRoomForAHealthyOne(t *testing.T) {
	f := newFixture(t)
	const ttl = 3 * time.Second
	var h history
	sick := map[string]*atomic.Bool{"a": {}, "b": {}}
	led := make(chan string, 100)
	ctx, cancel := context.WithCancel(f.ctx())
	defer cancel()
	ends := make(chan error, 2)
	for name, sick := range sick {
		s := f.session(f.client(), ttl)
		go func() {
			ends <- etcdlock.NewElection(s, "election").Run(ctx, name, func(ctx context.Context, term *etcdlock.Term) error {
				defer h.begin(term.Context(), s, term.Token())()
				led <- name
				<-ctx.Done()
				time.Sleep(50 * time.Millisecond) // the work ends after it is told to
				return nil
			}, etcdlock.WithStopTimeout(10*time.Second), etcdlock.WithHealthCheck(50*time.Millisecond, 2, func(context.Context) error {
				if sick.Load() {
					return errors.New("sick")
				}
				return nil
			}))
		}()
	}
	other := map[string]string{"a": "b", "b": "a"}
	leader := receive(t, led, "a leader")
	for range 5 {
		sick[leader].Store(true)
		next := receive(t, led, "the next leader")
		require.Equal(t, other[leader], next)
		sick[leader].Store(false)
		leader = next
	}
	cancel()
	for range sick {
		require.ErrorIs(t, receive(t, ends, "the end of Run"), context.Canceled)
	}
	h.assertExclusive(t)
}

// trap E7
func TestALeaderWithoutProgressMakesRoom(t *testing.T) {
	f := newFixture(t)
	const ttl = 3 * time.Second
	told, let := make(chan error, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(f.ctx())
	defer cancel()
	end := make(chan error, 1)
	go func() {
		end <- etcdlock.NewElection(f.session(f.client(), ttl), "election").Run(ctx, "a", func(ctx context.Context, term *etcdlock.Term) error {
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
	f.waitForKeys("election", 1)
	next := campaignInBackground(f.ctx(), etcdlock.NewElection(f.session(f.client(), ttl), "election"), "b")
	require.ErrorIs(t, receive(t, told, "the end of the context"), etcdlock.ErrNoProgress)
	at := time.Now()
	second := granted(t, next)
	require.Less(t, second.at.Sub(at), ttl+expirySlack, "by the lease")
	close(let)
	f.waitForKeys("election", 2) // it stands again
	cancel()
	require.ErrorIs(t, receive(t, end, "the end of Run"), context.Canceled)
	require.NoError(t, second.handle.Resign(f.ctx()))
}
