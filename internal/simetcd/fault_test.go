package simetcd_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// only lets an action happen to the nth request of a kind.
func only(kind simetcd.Kind, n int, act simetcd.Action) func(simetcd.Call) simetcd.Action {
	return func(call simetcd.Call) simetcd.Action {
		if call.Kind == kind && call.N == n {
			return act
		}
		return simetcd.Action{}
	}
}

func TestOneRequestIsTreatedAsTheHookSays(t *testing.T) {
	for _, tc := range []struct {
		what    string
		act     simetcd.Action
		err     error
		applied bool
		took    time.Duration
	}{
		{"nothing", simetcd.Action{}, nil, true, 2 * time.Millisecond},
		{"late request", simetcd.Action{DelayRequest: time.Second}, nil, true, 1002 * time.Millisecond},
		{"late reply", simetcd.Action{DelayReply: 2 * time.Second}, nil, true, 2002 * time.Millisecond},
		{"lost request", simetcd.Action{DropRequest: true}, context.DeadlineExceeded, false, 10 * time.Second},
		{"lost reply", simetcd.Action{DropReply: true}, context.DeadlineExceeded, true, 10 * time.Second},
		{"refused", simetcd.Action{Err: rpctypes.ErrGRPCInvalidAuthToken}, rpctypes.ErrInvalidAuthToken, false, 2 * time.Millisecond},
		{"applied and refused", simetcd.Action{ErrAfter: rpctypes.ErrGRPCTimeout}, rpctypes.ErrTimeout, true, 2 * time.Millisecond},
		{"later than its caller waits", simetcd.Action{DelayRequest: time.Minute}, context.DeadlineExceeded, true, 10 * time.Second},
	} {
		simulate(t, simetcd.Config{MinLatency: time.Millisecond, MaxLatency: time.Millisecond}, func(t *testing.T, srv *simetcd.Server) {
			c := srv.Client("a")
			require.Nil(t, srv.Intercept(only(simetcd.Put, 2, tc.act)))
			_, err := c.Put(ctx, "before", "")
			require.NoError(t, err)
			start := time.Now()
			_, err = c.Put(within(t, 10*time.Second), "k", "")
			require.InDelta(t, tc.took, time.Since(start), 10_000, tc.what)
			require.ErrorIs(t, err, tc.err, tc.what)
			time.Sleep(time.Hour)
			require.Equal(t, tc.applied, srv.Get("k") != nil, tc.what)
			require.Equal(t, 2, c.Count(simetcd.Put))
		})
	}
}

func TestACutEndsInOneOfThreeWays(t *testing.T) {
	unavailable := func(err error) bool { return status.Code(err) == codes.Unavailable }
	for _, tc := range []struct {
		what    string
		cut     func(*simetcd.Client)
		end     func(*simetcd.Client)
		applied bool // before the end
		after   bool
		ok      func(error) bool
	}{
		{"requests, healed", (*simetcd.Client).CutRequests, (*simetcd.Client).Heal, false, false, unavailable},
		{"requests, resumed", (*simetcd.Client).CutRequests, (*simetcd.Client).Resume, false, true, func(err error) bool { return err == nil }},
		{"requests, reset", (*simetcd.Client).CutRequests, (*simetcd.Client).Reset, false, false, unavailable},
		{"replies, healed", (*simetcd.Client).CutReplies, (*simetcd.Client).Heal, true, true, unavailable},
		{"replies, resumed", (*simetcd.Client).CutReplies, (*simetcd.Client).Resume, true, true, func(err error) bool { return err == nil }},
		{"both, healed", (*simetcd.Client).Cut, (*simetcd.Client).Heal, false, false, unavailable},
	} {
		simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
			c := srv.Client("a")
			wch := watching(t, c, "k")
			tc.cut(c)
			got := make(chan error, 1)
			go func() {
				_, err := c.Put(ctx, "k", "")
				got <- err
			}()
			time.Sleep(time.Hour)
			require.Empty(t, got, tc.what)
			require.Equal(t, tc.applied, srv.Get("k") != nil, tc.what)
			tc.end(c)
			require.True(t, tc.ok(<-got), tc.what)
			time.Sleep(time.Second)
			require.Equal(t, tc.after, srv.Get("k") != nil, tc.what)
			if tc.after {
				require.Equal(t, "+k@2 ", events(<-wch), "%s: a watch has no holes", tc.what)
			}
		})
	}
}

func TestWhileTheServerIsAwayCallsWait(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		got := make(chan error, 2)
		put := func(key string) {
			_, err := c.Put(ctx, key, "")
			got <- err
		}
		c.SetLatency(time.Second, time.Second)
		go put("on its way")
		time.Sleep(time.Millisecond)
		srv.Stop()
		require.Equal(t, codes.Unavailable, status.Code(<-got))

		_, err := c.Put(within(t, time.Second), "given up", "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		go put("waits")
		time.Sleep(time.Hour)
		require.Empty(t, got)
		srv.Start()
		require.NoError(t, <-got)
		require.Equal(t, []string{"waits=@2/2/1"}, show(srv.Keys("")))
	})
}

func TestAClosedClientFailsItsCalls(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		for _, closing := range []func(*simetcd.Client){
			func(c *simetcd.Client) { c.Close() },
			func(c *simetcd.Client) { c.Client.Close() },
		} {
			c := srv.Client("a")
			require.Same(t, c, srv.Client("a"))
			wch := c.Watch(ctx, "k")
			c.Cut()
			got := make(chan error, 1)
			go func() {
				_, err := c.Put(ctx, "k", "")
				got <- err
			}()
			time.Sleep(time.Second)
			closing(c)
			require.Equal(t, codes.Canceled, status.Code(<-got))
			_, open := <-wch
			require.False(t, open)
			_, err := c.Put(ctx, "k", "")
			require.Equal(t, codes.Canceled, status.Code(err))
			require.NotSame(t, c, srv.Client("a"))
			srv.Client("a").Close()
		}
	})
}

func TestObserversSeeEveryChangeInOrderAndMayUseTheServer(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		var seen []int64
		srv.OnEvent(func(rev int64, ev *mvccpb.Event) {
			seen = append(seen, rev)
			require.GreaterOrEqual(t, srv.Revision(), rev)
			if string(ev.Kv.Key) == "first" && ev.Type == mvccpb.Event_PUT {
				srv.DeleteKey("first")
				return
			}
			if ev.Type == mvccpb.Event_DELETE {
				require.Equal(t, "value", string(ev.PrevKv.Value))
			}
		})
		_, err := srv.Client("a").Txn(ctx).Then(clientv3.OpPut("first", "value"), clientv3.OpPut("second", "")).Commit()
		require.NoError(t, err)
		require.Equal(t, []int64{2, 2, 3}, seen)
	})
}

func TestALateRenewalCountsFromItsArrival(t *testing.T) {
	simulate(t, simetcd.Config{MinLatency: time.Millisecond, MaxLatency: time.Millisecond}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		id := srv.GrantLease(10 * time.Second)
		left := func() time.Duration { return time.Until(srv.LeaseExpiry(id)).Round(time.Millisecond) }
		renew := func() error {
			_, err := c.KeepAliveOnce(within(t, time.Second), id)
			return err
		}
		time.Sleep(5 * time.Second)
		srv.Intercept(only(simetcd.LeaseKeepAlive, 1, simetcd.Action{DelayReply: time.Minute}))
		require.ErrorIs(t, renew(), context.DeadlineExceeded)
		require.Equal(t, 9001*time.Millisecond, left(), "the reply is late, the renewal is not")

		srv.Intercept(only(simetcd.LeaseKeepAlive, 2, simetcd.Action{DelayRequest: 3 * time.Second}))
		require.ErrorIs(t, renew(), context.DeadlineExceeded)
		require.Equal(t, 8001*time.Millisecond, left())
		time.Sleep(2002 * time.Millisecond)
		require.Equal(t, 9999*time.Millisecond, left(), "nobody waits for it any more, and yet it renews")

		c.CutRequests()
		require.ErrorIs(t, renew(), context.DeadlineExceeded)
		time.Sleep(5 * time.Second)
		c.Resume()
		time.Sleep(2 * time.Millisecond)
		require.Equal(t, 9999*time.Millisecond, left())
	})
}

func TestAMessageHoldsUpItsStreamOnly(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		id := srv.GrantLease(time.Minute)
		srv.Intercept(only(simetcd.LeaseKeepAlive, 1, simetcd.Action{DelayReply: 5 * time.Second}))
		st, err := c.Remote().LeaseKeepAlive(within(t, time.Hour))
		require.NoError(t, err)
		start := time.Now()
		for range 2 {
			require.NoError(t, st.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}))
		}
		_, err = c.KeepAliveOnce(ctx, id)
		require.NoError(t, err)
		require.Less(t, time.Since(start), time.Second)
		for range 2 {
			_, err = st.Recv()
			require.NoError(t, err)
			require.InDelta(t, 5*time.Second, time.Since(start), float64(10*time.Millisecond))
		}
	})
}

func TestAnErrorBreaksTheStreamOfItsMessage(t *testing.T) {
	for _, act := range []simetcd.Action{{Err: rpctypes.ErrGRPCPermissionDenied}, {ErrAfter: rpctypes.ErrGRPCPermissionDenied}} {
		simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
			id := srv.GrantLease(10 * time.Second)
			time.Sleep(5 * time.Second)
			srv.Intercept(only(simetcd.LeaseKeepAlive, 1, act))
			_, err := srv.Client("a").KeepAliveOnce(ctx, id)
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
			time.Sleep(6 * time.Second)
			require.Equal(t, act.Err == nil, len(srv.Leases()) == 1)
		})
	}
}
