package perclient

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a client of an etcd in memory with leases that are kept on its streams.
type rig struct {
	*testing.T
	*simetcd.Server
	client   *simetcd.Client
	remote   *counted
	ctx      context.Context
	start    time.Time
	failures atomic.Int64 // renewals of all leases
}

// counted counts the streams of renewals that are opened.
type counted struct {
	pb.LeaseClient
	opened atomic.Int64
	hold   chan struct{} // streams are not opened before it is closed; nil: at once
}

func (c *counted) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	c.opened.Add(1)
	if c.hold != nil {
		select {
		case <-c.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return c.LeaseClient.LeaseKeepAlive(ctx, opts...)
}

func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c := srv.Client("a")
		test(&rig{T: t, Server: srv, client: c, remote: &counted{LeaseClient: c.Remote()}, ctx: ctx, start: time.Now()})
	})
}

func (r *rig) clock() time.Duration { return time.Since(r.start) }

// join is one more session's use of the client's streams.
func (r *rig) join() *Streams { return Join(nil, r.remote, r.client.Remote(), r.client.Client) }

// keep grants a lease and keeps it as a session does, until end is called.
func (r *rig) keep(ttl time.Duration) (l *lease.Lease, end func()) {
	return r.keepCounted(ttl, &r.failures)
}

func (r *rig) keepCounted(ttl time.Duration, failures *atomic.Int64) (l *lease.Lease, end func()) {
	s := r.join()
	ctx, cancel := context.WithCancel(r.ctx)
	l, err := lease.Grant(ctx, ctx, lease.Config{
		Client: r.client.Lease, Renewer: s.Renewals, TTL: ttl, Clock: r.clock,
		Answered: func(ok bool, _ error) {
			if !ok {
				failures.Add(1)
			}
		},
	}, new(clientv3.LeaseID))
	require.NoError(r, err)
	var kept sync.WaitGroup
	kept.Go(func() { _ = l.Keep() })
	return l, func() {
		cancel()
		kept.Wait()
		s.Leave()
	}
}

// open is how many streams the client has at the server.
func (r *rig) open() int {
	synctest.Wait()
	return r.client.Open().Streams
}

// report R8
func TestAllLeasesOfAClientAreRenewedOnOneStream(t *testing.T) {
	simulate(t, func(r *rig) {
		var leases []*lease.Lease
		var ends []func()
		for range 200 {
			l, end := r.keep(9 * time.Second)
			leases, ends = append(leases, l), append(ends, end)
		}
		time.Sleep(5 * time.Minute)
		for _, l := range leases {
			require.NoError(r, l.Err())
		}
		require.InDelta(r, 200*100, r.client.Count(simetcd.LeaseKeepAlive), 400)
		require.EqualValues(r, 1, r.remote.opened.Load())
		require.Equal(r, 1, r.open())
		for _, end := range ends[1:] {
			end()
		}
		time.Sleep(time.Minute)
		require.NoError(r, leases[0].Err(), "the others' end is not its own")
		require.Equal(r, 1, r.open())
		ends[0]()
		require.Zero(r, r.open())
		require.Zero(r, r.failures.Load())
	})
}

func TestAStreamThatBreaksWhileItIsIdleIsNoFailure(t *testing.T) {
	simulate(t, func(r *rig) {
		l, end := r.keep(9 * time.Second)
		defer end()
		for range 10 {
			time.Sleep(4 * time.Second)
			r.client.Reset()
		}
		time.Sleep(4 * time.Second)
		require.NoError(r, l.Err())
		require.Zero(r, r.failures.Load())
		require.InDelta(r, 11, r.remote.opened.Load(), 1)
	})
}

func TestALeaseThatEtcdDoesNotKnowEnds(t *testing.T) {
	simulate(t, func(r *rig) {
		l, end := r.keep(9 * time.Second)
		defer end()
		other, endOther := r.keep(9 * time.Second)
		defer endOther()
		r.RevokeLease(l.ID())
		<-l.Context().Done()
		require.ErrorIs(r, l.Err(), lockerr.ErrRevoked)
		require.NoError(r, other.Err())
	})
}

// The answers of a stream that hung count once they come, each from when its own request was sent.
func TestAStreamThatHangsGivesWayAndItsAnswersCount(t *testing.T) {
	simulate(t, func(r *rig) {
		l, end := r.keep(9 * time.Second)
		defer end()
		time.Sleep(time.Second)
		var first atomic.Int64 // when the first one was sent
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind != simetcd.LeaseKeepAlive {
				return simetcd.Action{}
			}
			if first.CompareAndSwap(0, int64(r.clock())) {
				return simetcd.Action{DelayReply: 4 * time.Second}
			}
			return simetcd.Action{DropReply: true}
		})
		time.Sleep(6500 * time.Millisecond) // the first one was answered meanwhile
		sent := time.Duration(first.Load())
		require.NotZero(r, sent)
		require.InDelta(r, sent+9*time.Second-l.Margin(), l.ValidUntil(), float64(time.Millisecond))
		require.Less(r, l.ValidUntil(), sent+9*time.Second-l.Margin()+time.Microsecond, "from when another one was sent")
		require.Greater(r, r.open(), 1)
		require.Greater(r, r.remote.opened.Load(), int64(1))
		r.Intercept(nil)
		time.Sleep(15 * time.Second)
		require.NoError(r, l.Err())
		require.Equal(r, 1, r.open(), "streams that hung are left")
	})
}

func TestStreamsStayFewWhileEtcdHangs(t *testing.T) {
	simulate(t, func(r *rig) {
		var ends []func()
		var leases []*lease.Lease
		for i := range 60 {
			l, end := r.keep(time.Duration(2+i) * time.Second)
			ends, leases = append(ends, end), append(leases, l)
		}
		time.Sleep(10 * time.Second)
		r.client.CutReplies()
		for range 200 {
			time.Sleep(50 * time.Millisecond)
			require.LessOrEqual(r, r.open(), 1+mostHanging)
		}
		r.client.Heal()
		time.Sleep(time.Minute)
		for _, l := range leases[20:] {
			require.NoError(r, l.Err(), l.TTL())
		}
		require.Equal(r, 1, r.open())
		for _, end := range ends {
			end()
		}
	})
}

// A lease that etcd refuses to renew ends the stream each time. It does so for itself alone.
func TestALeaseThatBreaksTheStreamIsRenewedAlone(t *testing.T) {
	simulate(t, func(r *rig) {
		var own atomic.Int64
		bad, end := r.keepCounted(9*time.Second, &own)
		var ends []func()
		for range 20 {
			_, end := r.keep(9 * time.Second)
			ends = append(ends, end)
		}
		r.client.SetLatency(30*time.Millisecond, 30*time.Millisecond) // others' renewals are under way at the same time
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if req, ok := c.Req.(*pb.LeaseKeepAliveRequest); ok && clientv3.LeaseID(req.ID) == bad.ID() {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		<-bad.Context().Done()
		end()
		require.Positive(r, own.Load())
		time.Sleep(time.Minute)
		require.Zero(r, r.failures.Load(), "the others were disturbed")
		require.Equal(r, 1, r.open())
		for _, end := range ends {
			end()
		}
	})
}

// An answer to a renewal that was given up is not taken for that to the next one of the lease.
func TestAnAnswerBelongsToItsOwnRenewal(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.join()
		defer s.Leave()
		id := r.GrantLease(time.Minute)
		var calls atomic.Int64
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind != simetcd.LeaseKeepAlive {
				return simetcd.Action{}
			}
			if calls.Add(1) == 1 {
				return simetcd.Action{DelayReply: time.Second}
			}
			return simetcd.Action{DelayReply: 3 * time.Second}
		})
		ctx, cancel := context.WithTimeout(r.ctx, 100*time.Millisecond)
		defer cancel()
		_, _, err := s.Renewals.Renew(ctx, id, r.clock, 10*time.Second)
		require.ErrorIs(r, err, context.DeadlineExceeded)
		_, sent, err := s.Renewals.Renew(r.ctx, id, r.clock, 10*time.Second)
		require.NoError(r, err)
		require.InDelta(r, time.Second, sent, float64(10*time.Millisecond), "it waited for the answer to the first")
		require.InDelta(r, 4*time.Second, r.clock(), float64(20*time.Millisecond))
		require.EqualValues(r, 1, r.remote.opened.Load())
	})
}

// Streams that come to nothing are opened more and more slowly, and one at a time.
func TestStreamsThatBreakAtOnceAreNotOpenedInALoop(t *testing.T) {
	simulate(t, func(r *rig) {
		var ends []func()
		for range 50 {
			_, end := r.keep(30 * time.Second)
			ends = append(ends, end)
		}
		time.Sleep(15 * time.Second)
		opened := r.remote.opened.Load()
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.LeaseKeepAlive {
				return simetcd.Action{Err: rpctypes.ErrGRPCNoLeader}
			}
			return simetcd.Action{}
		})
		time.Sleep(10 * time.Second)
		require.Less(r, r.remote.opened.Load()-opened, int64(120))
		r.Intercept(nil)
		time.Sleep(10 * time.Second)
		require.Equal(r, 1, r.open())
		for _, end := range ends {
			end()
		}
	})
}

// A lease that was taken over may have a renewal of its former session before it; and that of a
// question whose time is over may be before one of the session's own.
func TestARenewalThatWasGivenUpBeforeItWasSentSaysNothingOfTheLease(t *testing.T) {
	simulate(t, func(r *rig) {
		s := r.join()
		defer s.Leave()
		id := r.GrantLease(time.Minute)
		r.remote.hold = make(chan struct{}) // the connection is away
		ctx, cancel := context.WithTimeout(r.ctx, 100*time.Millisecond)
		defer cancel()
		_, _, err := s.Renewals.Renew(ctx, id, r.clock, 10*time.Second)
		require.ErrorIs(r, err, context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { close(r.remote.hold) })
		resp, sent, err := s.Renewals.Renew(r.ctx, id, r.clock, 10*time.Second)
		require.NoError(r, err)
		require.EqualValues(r, 60, resp.TTL)
		require.GreaterOrEqual(r, sent, time.Second)
	})
}

// Renewals take so long that short leases are lost all the time, and have streams give way. For the
// long leases of other sessions etcd is fast enough.
func TestSessionsOfShortLeasesDoNotEndTheLongLeasesOfOthers(t *testing.T) {
	simulate(t, func(r *rig) {
		var long []*lease.Lease
		for range 10 {
			l, end := r.keep(30 * time.Second)
			defer end()
			long = append(long, l)
			time.Sleep(770 * time.Millisecond)
		}
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.LeaseKeepAlive {
				return simetcd.Action{DelayReply: 2 * time.Second}
			}
			return simetcd.Action{}
		})
		until := time.Now().Add(time.Minute)
		var short sync.WaitGroup
		for i := range 20 {
			time.Sleep(137 * time.Millisecond)
			short.Go(func() {
				for time.Now().Before(until) {
					l, end := r.keepCounted(2*time.Second, new(atomic.Int64))
					<-l.Context().Done()
					end()
					time.Sleep(time.Duration(50+i) * time.Millisecond)
				}
			})
		}
		for time.Now().Before(until) {
			time.Sleep(100 * time.Millisecond)
			require.LessOrEqual(r, r.open(), 1+mostHanging)
		}
		short.Wait()
		for _, l := range long {
			require.NoError(r, l.Err())
		}
		require.Zero(r, r.failures.Load())
	})
}
