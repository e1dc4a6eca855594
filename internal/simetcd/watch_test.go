package simetcd_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// events writes a response as its events, each as +key@rev or -key@rev.
func events(r clientv3.WatchResponse) string {
	s := ""
	for _, ev := range r.Events {
		sign := "+"
		if ev.Type == clientv3.EventTypeDelete {
			sign = "-"
		}
		s += fmt.Sprintf("%s%s@%d ", sign, ev.Kv.Key, ev.Kv.ModRevision)
		if ev.PrevKv != nil {
			s += fmt.Sprintf("(was %s) ", ev.PrevKv.Value)
		}
	}
	return s
}

// watching starts a watch and waits until the server has it.
func watching(t *testing.T, c *simetcd.Client, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	wch := c.Watch(within(t, 1000*time.Hour), key, opts...)
	time.Sleep(time.Second)
	return wch
}

func TestAWatchShowsWhatItIsAskedFor(t *testing.T) {
	prefix := clientv3.WithPrefix()
	for _, tc := range []struct {
		what  string
		key   string
		opts  []clientv3.OpOption
		first string // what it gets of the past
		then  string // and of the future
	}{
		{"from now on", "k/", []clientv3.OpOption{prefix}, "", "+k/2@5 +k/3@5 "},
		{"from the past", "k/", []clientv3.OpOption{prefix, clientv3.WithRev(3)}, "+k/2@3 -k/1@4 ", "+k/2@5 +k/3@5 "},
		{"from the future", "k/", []clientv3.OpOption{prefix, clientv3.WithRev(6)}, "", ""},
		{"one key", "k/2", []clientv3.OpOption{clientv3.WithRev(1)}, "+k/2@3 ", "+k/2@5 "},
		{"no puts", "k/", []clientv3.OpOption{prefix, clientv3.WithRev(1), clientv3.WithFilterPut()}, "-k/1@4 ", ""},
		{"no deletions", "k/", []clientv3.OpOption{prefix, clientv3.WithRev(1), clientv3.WithFilterDelete()}, "+k/1@2 +k/2@3 ", "+k/2@5 +k/3@5 "},
		{"with what was before", "k/", []clientv3.OpOption{prefix, clientv3.WithRev(4), clientv3.WithPrevKV()}, "-k/1@4 (was one) ", "+k/2@5 (was two) +k/3@5 "},
		{"from a key on", "k/3", []clientv3.OpOption{clientv3.WithFromKey()}, "", "+k/3@5 "},
	} {
		simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
			c := srv.Client("a")
			srv.PutKey("k/1", "one", 0) // 2
			srv.PutKey("k/2", "two", 0) // 3
			srv.DeleteKey("k/1")        // 4
			wch := watching(t, c, tc.key, tc.opts...)
			expect := func(want string, rev int64) {
				if want != "" {
					r := <-wch
					require.Equal(t, want, events(r), tc.what)
					require.Equal(t, rev, r.Header.Revision, tc.what)
				}
				time.Sleep(time.Second)
				require.Empty(t, wch, tc.what)
			}
			expect(tc.first, 4)
			_, err := c.Txn(ctx).Then(clientv3.OpPut("k/2", "2"), clientv3.OpPut("k/3", "3")).Commit()
			require.NoError(t, err)
			expect(tc.then, 5)
		})
	}
}

func TestAWatchFromThePastWaitsForTheTick(t *testing.T) {
	for tick, want := range map[time.Duration]time.Duration{
		0:                      1100 * time.Millisecond,
		700 * time.Millisecond: 1400 * time.Millisecond,
		-1:                     1010 * time.Millisecond,
	} {
		simulate(t, simetcd.Config{UnsyncedTick: tick, MinLatency: 5 * time.Millisecond, MaxLatency: 5 * time.Millisecond}, func(t *testing.T, srv *simetcd.Server) {
			start := time.Now()
			srv.PutKey("k", "", 0)
			time.Sleep(time.Second)
			<-srv.Client("a").Watch(within(t, time.Hour), "k", clientv3.WithRev(1))
			if tick >= 0 {
				want += 5 * time.Millisecond // from the tick to the client
			}
			require.InDelta(t, want, time.Since(start), 10_000)
		})
	}
}

func TestACompactedWatchIsCanceledWithTheRevision(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		for range 5 {
			srv.PutKey("k", "", 0)
		}
		running := watching(t, c, "k")
		_, err := c.Compact(ctx, 4)
		require.NoError(t, err)
		_, err = c.Compact(ctx, 4)
		require.ErrorIs(t, err, rpctypes.ErrCompacted)
		_, err = c.Compact(ctx, 40)
		require.ErrorIs(t, err, rpctypes.ErrFutureRev)

		wch := c.Watch(within(t, time.Hour), "k", clientv3.WithRev(3))
		r := <-wch
		require.True(t, r.Canceled)
		require.ErrorIs(t, r.Err(), rpctypes.ErrCompacted)
		require.EqualValues(t, 4, r.CompactRevision)
		_, open := <-wch
		require.False(t, open)

		require.Equal(t, "+k@4 +k@5 +k@6 ", events(<-c.Watch(within(t, time.Hour), "k", clientv3.WithRev(4))))
		require.Empty(t, running, "one that has kept up does not notice")
		srv.Compact(0)
		srv.PutKey("k", "", 0)
		require.Equal(t, "+k@7 ", events(<-running))
	})
}

func TestAWatchIsOpenedAgainWhereItBroke(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		for _, breaks := range []func(){srv.CutWatches, c.Reset, func() { srv.Stop(); time.Sleep(time.Minute); srv.Start() }} {
			// clientv3 opens a watch from now on, that has seen nothing yet, again from the revision at which it was
			// opened, and not from the one after: here that one is another key's.
			srv.PutKey("other", "", 0)
			wch := watching(t, c, "k")
			c.ResetCounts()
			rev := srv.Revision()
			breaks()
			srv.PutKey("k", "", 0)
			srv.PutKey("k", "", 0)
			require.Equal(t, fmt.Sprintf("+k@%d +k@%d ", rev+1, rev+2), events(<-wch))
			require.GreaterOrEqual(t, c.Count(simetcd.Watch), 1)
			srv.PutKey("k", "", 0)
			require.Equal(t, fmt.Sprintf("+k@%d ", rev+3), events(<-wch))
		}
	})
}

func TestAWatchCanceledByTheServerEnds(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		wch := watching(t, srv.Client("a"), "k")
		srv.CancelWatches("enough")
		_, open := <-wch
		require.False(t, open)
	})
}

func TestANewLeaderBreaksOnlyWatchesThatRequireOne(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		patient := watching(t, c, "k")
		strict := c.Watch(clientv3.WithRequireLeader(within(t, time.Hour)), "k")
		time.Sleep(time.Second)
		srv.NewLeader()
		r := <-strict
		require.ErrorIs(t, r.Err(), rpctypes.ErrNoLeader)
		srv.PutKey("k", "", 0)
		require.Equal(t, "+k@2 ", events(<-patient))
	})
}

func TestAMissedDeletionIsNeverShown(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		wch := watching(t, srv.Client("a"), "k", clientv3.WithFilterPut())
		srv.MissDelete("k")
		for range 2 {
			srv.PutKey("k", "", 0)
			require.True(t, srv.DeleteKey("k"))
		}
		require.Equal(t, "-k@5 ", events(<-wch))
		require.Equal(t, "+k@2 +k@4 -k@5 ", events(<-srv.Client("b").Watch(within(t, time.Hour), "k", clientv3.WithRev(1))))
	})
}

func TestProgressIsReported(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		wch := watching(t, c, "k", clientv3.WithProgressNotify())
		srv.PutKey("other", "", 0)
		require.NoError(t, c.RequestProgress(ctx))
		r := <-wch
		require.True(t, r.IsProgressNotify())
		require.EqualValues(t, 2, r.Header.Revision)

		srv.PutKey("other", "", 0)
		start := time.Now()
		r = <-wch
		require.True(t, r.IsProgressNotify())
		require.EqualValues(t, 3, r.Header.Revision)
		require.InDelta(t, 10*time.Minute, time.Since(start), float64(2*time.Second))
	})
}

func TestAWatchThatIsRefusedSaysWhy(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		srv.Intercept(func(call simetcd.Call) simetcd.Action {
			if call.Kind == simetcd.Watch {
				return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
			}
			return simetcd.Action{}
		})
		r := <-srv.Client("a").Watch(within(t, time.Hour), "k")
		require.True(t, r.Canceled)
		require.ErrorContains(t, r.Err(), "permission denied")
		synctest.Wait()
	})
}
