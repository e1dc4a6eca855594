package liveness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// rig is a simulated etcd in virtual time, and the record of one session.
type rig struct {
	*testing.T
	*simetcd.Server
	ctx    context.Context // of the session
	tasks  sync.WaitGroup  // of the session
	logs   *logged.ObservedLogs
	record *Record
	lease  *testLease // the present one
}

const address = "10.0.0.1:7400"

type testLease struct {
	id  clientv3.LeaseID
	ctx context.Context
	end context.CancelFunc
}

func (l *testLease) ID() clientv3.LeaseID     { return l.id }
func (l *testLease) Context() context.Context { return l.ctx }

// simulate runs a test with a record that publishes an address; or, with listens false, none.
func simulate(t *testing.T, listens bool, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		ctx, cancel := context.WithCancel(t.Context())
		r := &rig{T: t, Server: srv, ctx: ctx}
		defer r.tasks.Wait()
		defer cancel()
		var core zapcore.Core
		core, r.logs = logged.New(zap.WarnLevel)
		c := srv.Client("a")
		cfg := Config{
			Context: ctx, KV: c.KV, Leases: c.Lease, Insist: insist,
			Log:   zap.New(core),
			Spawn: func(f func()) bool { r.tasks.Go(f); return true },
			Fail:  func(bug error) { panic(bug) },
		}
		r.record, _ = New(cfg, nil)
		if listens {
			r.record.own = wire.Liveness{Address: address}
		}
		test(r)
	})
}

func insist(ctx context.Context, try func(context.Context) error) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		err := try(bounded)
		cancel()
		switch {
		case err == nil || answer.Final(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (r *rig) newLease() *testLease {
	l := &testLease{id: r.GrantLease(time.Hour)}
	l.ctx, l.end = context.WithCancel(r.ctx)
	return l
}

// granted is what the session does when it is granted a lease.
func (r *rig) granted() {
	r.lease = r.newLease()
	r.record.SetLease(r.lease)
}

// lost is what the session does when it loses its lease.
func (r *rig) lost() {
	r.lease.end()
	r.record.LeaseLost(r.lease.id, lockerr.ErrExpired)
}

func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// stands is what stands under the present lease.
func (r *rig) stands() wire.Liveness {
	kv := r.Get(wire.LivenessKey(r.lease.id))
	if kv == nil {
		return wire.Liveness{}
	}
	return wire.ParseLiveness(kv.Value)
}

// withdrawn asserts that no address stands, and that none will.
func (r *rig) withdrawn() {
	r.Helper()
	require.Empty(r, r.stands().Address)
	r.pass(10 * time.Second)
	require.Empty(r, r.stands().Address, "a late write")
}

func (r *rig) published() {
	r.Helper()
	r.pass(10 * time.Second)
	require.Equal(r, address, r.stands().Address)
	require.Equal(r, published, r.record.phase)
}

// putsOf lets something happen to the next n requests that write a record with an address, or without.
func (r *rig) putsOf(n int, address string, act simetcd.Action) {
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		req, ok := c.Req.(*pb.TxnRequest)
		if ok && n > 0 && wire.ParseLiveness(req.Success[0].GetRequestPut().Value).Address == address {
			n--
			return act
		}
		return simetcd.Action{}
	})
}

func TestAWithdrawalIsFinalUntilItIsTakenBack(t *testing.T) {
	late := simetcd.Action{DelayRequest: 3 * time.Second}
	for name, happens := range map[string]func(r *rig){
		"the address was published": func(r *rig) {
			require.NoError(r, r.record.Withdraw(r.ctx))
		},
		"the address is being published": func(r *rig) {
			r.lost()
			r.putsOf(1, address, late)
			r.granted()
			require.NoError(r, r.record.Withdraw(r.ctx))
		},
		"the address is being published again": func(r *rig) {
			require.NoError(r, r.record.Withdraw(r.ctx))
			r.putsOf(1, address, late)
			r.record.Restore()
			r.pass(100 * time.Millisecond)
			require.NoError(r, r.record.Withdraw(r.ctx))
		},
		"another call is taken back": func(r *rig) {
			require.NoError(r, r.record.Withdraw(r.ctx))
			require.NoError(r, r.record.Withdraw(r.ctx))
			r.record.Restore()
		},
		"another call fails": func(r *rig) {
			require.NoError(r, r.record.Withdraw(r.ctx))
			r.record.phase = withdrawing // as if it had not returned yet
			ctx, cancel := context.WithCancel(r.ctx)
			cancel()
			require.Error(r, r.record.Withdraw(ctx))
		},
		"a lease is granted meanwhile": func(r *rig) {
			require.NoError(r, r.record.Withdraw(r.ctx))
			r.lost()
			r.granted()
		},
		"there is no lease": func(r *rig) {
			r.lost()
			require.NoError(r, r.record.Withdraw(r.ctx))
			r.granted()
		},
		"a lease is granted while it waits for etcd": func(r *rig) {
			r.putsOf(1, "", simetcd.Action{DropRequest: true})
			done := make(chan error, 1)
			go func() { done <- r.record.Withdraw(r.ctx) }()
			r.pass(100 * time.Millisecond)
			r.lost()
			r.granted()
			require.NoError(r, <-done)
		},
		"its answer is lost": func(r *rig) {
			r.putsOf(1, "", simetcd.Action{DropReply: true})
			require.NoError(r, r.record.Withdraw(r.ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, true, func(r *rig) {
				r.granted()
				r.published()
				happens(r)
				r.withdrawn()
				r.record.Restore()
				r.published()
				require.Empty(r, r.logs.All())
			})
		})
	}
}

func TestAWithdrawalThatFailsChangesNothing(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"its request is lost": {DropRequest: true}, "its answer is lost": {DropReply: true}, "it comes late": {DelayRequest: 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, true, func(r *rig) {
				r.granted()
				r.published()
				r.putsOf(1, "", act)
				ctx, cancel := context.WithTimeout(r.ctx, 500*time.Millisecond)
				defer cancel()
				require.ErrorIs(r, r.record.Withdraw(ctx), context.DeadlineExceeded)
				r.published()
			})
		})
	}
}

// As in a closed session. Its lease may be gone.
func TestNothingIsWithdrawnUnderALeaseThatHasEnded(t *testing.T) {
	simulate(t, true, func(r *rig) {
		r.granted()
		r.published()
		r.lease.end()
		r.RevokeLease(r.lease.id)
		require.NoError(r, r.record.Withdraw(r.ctx))
		r.record.Restore()
		require.Equal(r, published, r.record.phase)
		r.lost()
		r.granted()
		r.published()
	})
}

func TestAnAddressIsPublishedUnderEachLease(t *testing.T) {
	simulate(t, true, func(r *rig) {
		r.putsOf(1, address, simetcd.Action{DropReply: true})
		r.granted()
		r.published()
		require.Equal(r, r.Get(wire.LivenessKey(r.lease.id)).ModRevision, r.record.since)
		r.lost()
		r.granted()
		r.published()
		r.record.SetLease(r.lease)
		r.published()
		require.Equal(r, int64(1), r.Get(wire.LivenessKey(r.lease.id)).Version)

		r.lost()
		r.putsOf(1, address, simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied})
		r.granted()
		r.pass(time.Second)
		require.Equal(r, refused, r.record.phase)
		require.Equal(r, 1, r.logs.FilterMessageSnippet("crash detection is off").Len())
		require.NoError(r, r.record.Withdraw(r.ctx))
		r.withdrawn()
	})
}

func TestARecordOfAFormerProcessIsReplaced(t *testing.T) {
	const none = ""
	for name, c := range map[string]struct {
		stands  string // in etcd; empty: nothing
		listens bool   // the present process
		then    string // in etcd
		writes  bool
		err     error
	}{
		"nothing, without crash detection":                 {none, false, none, false, nil},
		"nothing":                                          {none, true, `{"address":"10.0.0.1:7400"}`, true, nil},
		"another address, without crash detection":         {`{"address":"10.0.0.9:7400"}`, false, `{}`, true, nil},
		"another address":                                  {`{"address":"10.0.0.9:7400"}`, true, `{"address":"10.0.0.1:7400"}`, true, nil},
		"the same address":                                 {`{"address":"10.0.0.1:7400"}`, true, `{"address":"10.0.0.1:7400"}`, true, nil},
		"a record that is withdrawn, no crash detection":   {`{}`, false, `{}`, false, nil},
		"a record that is withdrawn":                       {`{}`, true, `{"address":"10.0.0.1:7400"}`, true, nil},
		"what cannot be read":                              {`{`, true, `{"address":"10.0.0.1:7400"}`, true, nil},
		"a record that is marked":                          {`{"address":"10.0.0.9:7400","condemned":true}`, true, none, true, lockerr.ErrLeaseNotFound},
		"a record that is marked, without crash detection": {`{"address":"10.0.0.9:7400","condemned":true}`, false, none, true, lockerr.ErrLeaseNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, c.listens, func(r *rig) {
				l := r.newLease()
				key := wire.LivenessKey(l.id)
				if c.stands != none {
					r.PutKey(key, c.stands, l.id)
				}
				before := r.Revision()
				require.ErrorIs(r, r.record.Replace(r.ctx, l), c.err)
				require.Equal(r, c.writes, r.Revision() > before)
				if c.then == none {
					require.Nil(r, r.Get(key))
				} else {
					require.Equal(r, c.then, string(r.Get(key).Value))
				}
				require.Equal(r, c.err == nil, slices.Contains(r.Leases(), l.id))
				r.lease = l
				r.record.SetLease(l)
				if c.listens && c.err == nil {
					r.published()
				}
			})
		})
	}
}

// Whatever etcd loses or delays, no address is published between a Withdraw that succeeded and its Restore.
func TestARecordUnderFaults(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			simulate(t, true, func(r *rig) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				var present atomic.Int64      // lease
				var silent, told atomic.Int32 // withdrawals that hold; addresses that were told meanwhile
				r.OnEvent(func(_ int64, ev *mvccpb.Event) {
					if ev.Type == mvccpb.PUT && ev.Kv.Lease == present.Load() && silent.Load() > 0 && wire.ParseLiveness(ev.Kv.Value).Address != "" {
						told.Add(1)
					}
				})
				var draw sync.Mutex
				r.Intercept(func(simetcd.Call) simetcd.Action {
					draw.Lock()
					defer draw.Unlock()
					switch rnd.IntN(8) {
					case 0:
						return simetcd.Action{DropRequest: true}
					case 1:
						return simetcd.Action{DropReply: true}
					case 2, 3:
						return simetcd.Action{DelayRequest: time.Duration(rnd.Int64N(int64(3 * time.Second)))}
					default:
						return simetcd.Action{}
					}
				})
				number := func(n int) int { draw.Lock(); defer draw.Unlock(); return rnd.IntN(n) }
				grant := func() {
					r.lease = r.newLease()
					present.Store(int64(r.lease.id))
					r.record.SetLease(r.lease)
				}
				grant()
				var orphans sync.WaitGroup
				for range 30 {
					switch number(6) {
					case 0:
						present.Store(0)
						r.lost()
						r.pass(time.Duration(number(300)) * time.Millisecond)
						grant()
					case 1, 2:
						patience, stay := time.Duration(number(4000))*time.Millisecond, time.Duration(number(3000))*time.Millisecond
						orphans.Go(func() {
							ctx, cancel := context.WithTimeout(r.ctx, patience)
							defer cancel()
							if r.record.Withdraw(ctx) == nil {
								silent.Add(1)
								time.Sleep(stay)
								silent.Add(-1)
								r.record.Restore()
							}
						})
					default:
						r.pass(time.Duration(number(1000)) * time.Millisecond)
					}
				}
				orphans.Wait()
				require.Zero(r, told.Load())
				r.Intercept(nil)
				r.published()
				require.Zero(r, r.record.withdrawals)
			})
		})
	}
}

// Each edge that is not in the table is refused: the phase stays, and the session ends with an error that
// names the edge.
func TestOnlyLegalChangesOfTheRecordAreMade(t *testing.T) {
	all := []phase{absent, publishing, published, refused, withdrawing, withdrawn}
	for _, from := range all {
		for _, to := range all {
			var bug error
			r := Record{Config: Config{Fail: func(err error) { bug = err }}, phase: from}
			r.become(to)
			if slices.Contains(phases.Edges[from], to) {
				require.Equal(t, to, r.phase)
				require.NoError(t, bug)
			} else {
				require.Equal(t, from, r.phase)
				require.EqualError(t, bug, fmt.Sprintf("bug in etcdlock: illegal state change of the liveness record from %v to %v", from, to))
			}
		}
	}
}
