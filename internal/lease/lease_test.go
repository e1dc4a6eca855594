package lease

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulate runs a test in virtual time, with a clock that the test can move ahead of
// the timers.
func simulate(t *testing.T, test func(t *testing.T, srv *simetcd.Server, cfg Config, asleep *time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{MinTTL: 2 * time.Second})
		defer srv.Close()
		start, asleep := time.Now(), time.Duration(0)
		cfg := Config{
			Client: srv.Client("a").Lease,
			TTL:    10 * time.Second,
			Clock:  func() time.Duration { return time.Since(start) + asleep },
		}
		test(t, srv, cfg, &asleep)
	})
}

// A try that finds its lease granted counts the TTL that is left, and takes no other lease for it.
func TestALeaseThatAnEarlierTryWasGrantedIsTakenIfItIsTheOne(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		own, foreign := srv.GrantLease(10*time.Second), srv.GrantLease(9*time.Second)
		time.Sleep(3500 * time.Millisecond)
		id := own
		l, err := Grant(t.Context(), context.Background(), cfg, &id)
		require.NoError(t, err)
		require.Equal(t, own, l.ID())
		require.Equal(t, 10*time.Second, l.Granted())
		require.Greater(t, l.Remaining(), 4*time.Second)
		require.LessOrEqual(t, l.Remaining()+l.Margin(), time.Until(srv.LeaseExpiry(own)), "and for no longer than etcd keeps it")
		l.End(errors.New("the test is over"))

		id = foreign
		_, err = Grant(t.Context(), context.Background(), cfg, &id)
		require.Error(t, err)
		require.False(t, answer.Final(err), "another one is asked for: %v", err)
		l, err = Grant(t.Context(), context.Background(), cfg, &id)
		require.NoError(t, err)
		require.NotEqual(t, foreign, l.ID())
		require.Equal(t, id, l.ID())
		l.End(errors.New("the test is over"))
	})
}

func TestTheDefaultMarginIsATenthOfTheTTLAndAtMostASecond(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{
		time.Second:      100 * time.Millisecond,
		5 * time.Second:  500 * time.Millisecond,
		10 * time.Second: time.Second,
		time.Hour:        time.Second,
	} {
		require.Equal(t, want, defaultMargin(ttl))
	}
}

// trap C3
func TestALeaseCountsFromWhenItWasAskedFor(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		srv.Client("a").SetLatency(2*time.Second, 2*time.Second)
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		require.Equal(t, 9*time.Second, l.ValidUntil())
		require.InDelta(t, 5*time.Second, l.Remaining(), float64(time.Millisecond), "the answer came after 4 s")
		<-l.Context().Done()
		require.Equal(t, 9*time.Second, cfg.Clock())
		require.ErrorIs(t, l.Err(), lockerr.ErrLost)
		require.ErrorIs(t, l.Err(), lockerr.ErrExpired)
		require.NotErrorIs(t, l.Err(), lockerr.ErrRevoked)
	})
}

// trap C4
func TestAnAnswerThatComesAfterTheEndIsTooLate(t *testing.T) {
	simulate(t, func(t *testing.T, _ *simetcd.Server, cfg Config, asleep *time.Duration) {
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		l.extend(cfg.Clock()+3*time.Second, l.granted)
		require.InDelta(t, 12*time.Second, l.ValidUntil(), float64(10*time.Millisecond))
		l.extend(0, l.granted)
		require.InDelta(t, 12*time.Second, l.ValidUntil(), float64(10*time.Millisecond), "answers may overtake each other")
		*asleep = 20 * time.Second
		l.extend(cfg.Clock(), l.granted)
		require.ErrorIs(t, l.Err(), lockerr.ErrExpired)
		l.extend(cfg.Clock(), l.granted)
		require.ErrorIs(t, l.Err(), lockerr.ErrExpired)
		require.LessOrEqual(t, l.Remaining(), time.Duration(0))
	})
}

func TestTheFirstCauseCounts(t *testing.T) {
	simulate(t, func(t *testing.T, _ *simetcd.Server, cfg Config, _ *time.Duration) {
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		first := errors.New("first")
		l.End(first)
		l.End(errors.New("second"))
		time.Sleep(time.Minute)
		require.Equal(t, first, l.Err())
		require.Equal(t, first, context.Cause(l.Context()))
	})
}

func TestALeaseEndsWithItsParent(t *testing.T) {
	simulate(t, func(t *testing.T, _ *simetcd.Server, cfg Config, _ *time.Duration) {
		parent, cancel := context.WithCancelCause(context.Background())
		l, err := Grant(t.Context(), parent, cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		kept := make(chan error, 1)
		go func() { kept <- l.Keep() }()
		time.Sleep(time.Minute)
		why := errors.New("closed")
		cancel(why)
		require.Equal(t, why, <-kept)
		require.Equal(t, why, l.Err())
	})
}

// trap C7
func TestResumeAsksWhetherTheLeaseIsThere(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		_, err := Resume(t.Context(), context.Background(), cfg, 4711)
		require.ErrorIs(t, err, lockerr.ErrLeaseNotFound)
		id := srv.GrantLease(5 * time.Second)
		l, err := Resume(t.Context(), context.Background(), cfg, id)
		require.NoError(t, err)
		require.Equal(t, id, l.ID())
		require.Equal(t, 5*time.Second, l.TTL())
		require.Equal(t, 500*time.Millisecond, l.Margin())
		l.End(lockerr.ErrLeaseNotFound)
	})
}

// trap C6
func TestTheGrantedTTLCounts(t *testing.T) {
	simulate(t, func(t *testing.T, _ *simetcd.Server, cfg Config, _ *time.Duration) {
		cfg.TTL = time.Second
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		require.Equal(t, 2*time.Second, l.TTL())
		<-l.Context().Done()
		require.Equal(t, 1800*time.Millisecond, cfg.Clock())
	})
}

// A clock that reports its jumps costs no timers. The end is noticed at the same time as with a clock
// that does not.
func TestAClockThatReportsItsJumpsEndsALeaseAtTheSameTime(t *testing.T) {
	end := func(reports bool, jumpsAt, by time.Duration) (after time.Duration, readings int64) {
		simulate(t, func(t *testing.T, _ *simetcd.Server, cfg Config, _ *time.Duration) {
			start, slept, read := time.Now(), atomic.Int64{}, atomic.Int64{}
			cfg.Clock = func() time.Duration {
				read.Add(1)
				return time.Since(start) + time.Duration(slept.Load())
			}
			report := func() {}
			if reports {
				cfg.Jumps = func(look func()) (remove func()) {
					report = look
					return func() { report = func() {} }
				}
			}
			l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
			require.NoError(t, err)
			time.Sleep(jumpsAt)
			synctest.Wait()
			slept.Add(int64(by))
			report()
			<-l.Context().Done()
			after = time.Since(start)
			require.ErrorIs(t, l.Err(), lockerr.ErrExpired)
			synctest.Wait()
			report() // too late
			readings = read.Load()
		})
		return after, readings
	}
	for _, by := range []time.Duration{0, time.Second, time.Minute} {
		for _, jumpsAt := range []time.Duration{0, 100 * time.Millisecond, 3333 * time.Millisecond, 8800 * time.Millisecond} {
			without, _ := end(false, jumpsAt, by)
			with, seldom := end(true, jumpsAt, by)
			// The grid of the looks begins with the answer to the grant.
			require.InDelta(t, without, with, float64(5*time.Millisecond), "a jump by %v after %v", by, jumpsAt)
			require.LessOrEqual(t, seldom, int64(12), "readings of the clock")
		}
	}
}

func TestARevokedLeaseIsToldApartFromAnExpiredOne(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		require.NoError(t, l.Verify(t.Context()))
		require.NoError(t, l.Err())
		srv.RevokeLease(l.ID())
		require.NoError(t, l.Verify(t.Context()))
		require.ErrorIs(t, l.Err(), lockerr.ErrRevoked)
		require.NoError(t, l.Revoke(t.Context()), "it is gone, as was wanted")

		l, err = Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		kept := make(chan error, 1)
		go func() { kept <- l.Keep() }()
		time.Sleep(time.Minute)
		require.NoError(t, l.Err())
		srv.RevokeLease(l.ID())
		require.ErrorIs(t, <-kept, lockerr.ErrRevoked, "the next renewal finds out")
	})
}

// fastRenewals is etcd 3.7 with a leader that applies late: it renews a revoked lease.
type fastRenewals struct{ clientv3.Lease }

func (fastRenewals) KeepAliveOnce(context.Context, clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return &clientv3.LeaseKeepAliveResponse{ResponseHeader: new(pb.ResponseHeader), TTL: 10}, nil
}

func TestARevocationIsFoundThoughALateLeaderStillRenewsTheLease(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		cfg.Client = fastRenewals{cfg.Client}
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		require.NoError(t, l.Verify(t.Context()))
		require.NoError(t, l.Err())
		srv.RevokeLease(l.ID())
		require.NoError(t, l.Verify(t.Context()))
		require.ErrorIs(t, l.Err(), lockerr.ErrRevoked)
	})
}

func TestRenewalsComeEveryThirdOfTheTTLAndWhoeverAsksIsTold(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		var yes, no atomic.Int64 // results of Err
		cfg.Answered = func(ok bool, _ error) {
			if ok {
				yes.Add(1)
			} else {
				no.Add(1)
			}
		}
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		kept := make(chan error, 1)
		go func() { kept <- l.Keep() }()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		require.Equal(t, 18, srv.Client("a").Count(simetcd.LeaseKeepAlive))
		require.EqualValues(t, 18, yes.Load())
		require.Zero(t, no.Load())

		srv.Client("a").Cut()
		require.ErrorIs(t, <-kept, lockerr.ErrExpired)
		require.Positive(t, no.Load())
		require.LessOrEqual(t, srv.Client("a").Count(simetcd.LeaseKeepAlive), 18+7, "as many as fit into one TTL")
		srv.Client("a").Heal()
		require.NoError(t, l.Revoke(t.Context()))
		require.Empty(t, srv.Leases())
	})
}

func TestALeaseThatIsRenewedNoMoreEndsAtItsDeadline(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server, cfg Config, _ *time.Duration) {
		l, err := Grant(t.Context(), context.Background(), cfg, new(clientv3.LeaseID))
		require.NoError(t, err)
		kept := make(chan error, 1)
		go func() { kept <- l.Keep() }()
		srv.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.LeaseKeepAlive {
				return simetcd.Action{DelayReply: time.Second} // one is under way when the renewals stop
			}
			return simetcd.Action{}
		})
		for srv.Client("a").Count(simetcd.LeaseKeepAlive) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
		why := errors.New("a reason")
		l.StopRenewing(why)
		l.StopRenewing(errors.New("another one"))
		left, began := l.Remaining(), time.Now()
		cause := <-kept
		require.ErrorIs(t, cause, lockerr.ErrExpired)
		require.ErrorIs(t, cause, why)
		require.EqualError(t, cause, "lost: the lease was given up on purpose: a reason")
		require.Equal(t, left, time.Since(began))
		require.Equal(t, 1, srv.Client("a").Count(simetcd.LeaseKeepAlive))
	})
}
