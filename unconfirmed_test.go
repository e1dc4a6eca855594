package etcdlock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// releases are the ways in which something that is held by a session is released.
var releases = map[string]func(w *world, s *Session) (release func(context.Context) error){
	"Lock":     func(w *world, s *Session) func(context.Context) error { return w.lock(NewMutex(s, "m")).Unlock },
	"retained": func(w *world, s *Session) func(context.Context) error { return afterRetention(w, s) },
	"WriteLock": func(w *world, s *Session) func(context.Context) error {
		return w.write(NewRWMutex(s, "m")).Unlock
	},
	"ReadLock": func(w *world, s *Session) func(context.Context) error { return w.read(NewRWMutex(s, "m")).Unlock },
	"Permit": func(w *world, s *Session) func(context.Context) error {
		return w.acquire(NewSemaphore(s, "m", 3), 2).Release
	},
	"LockSet": func(w *world, s *Session) func(context.Context) error { return w.lockAll(s, "m", "n").Unlock },
	"Term": func(w *world, s *Session) func(context.Context) error {
		return w.stands(NewElection(s, "m"), "v").get().Resign
	},
	"Transfer": func(w *world, s *Session) func(context.Context) error {
		term := w.stands(NewElection(s, "m"), "v").get()
		w.stands(NewElection(w.session("b"), "m"), "next")
		return func(ctx context.Context) error { return term.Transfer(ctx, "next") }
	},
}

// afterRetention holds with a key that was kept, while another session waits for it.
func afterRetention(w *world, s *Session) func(context.Context) error {
	m := NewMutex(s, "m", WithRetention(time.Hour))
	require.NoError(w, w.lock(m).Unlock(w.ctx))
	l := w.lock(m)
	start(w, NewMutex(w.session("b"), "m").Lock)
	w.pass(time.Second)
	return l.Unlock
}

// keysOf are the keys of a lease.
func (w *world) keysOf(id clientv3.LeaseID) (keys []string) {
	for _, kv := range w.Keys("") {
		if kv.Lease == int64(id) {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

// eachRelease tests each of them, after a while in which the hold has settled or without.
func eachRelease(t *testing.T, test func(w *world, s *Session, release func(context.Context) error, what string)) {
	for what, hold := range releases {
		for _, after := range []time.Duration{0, time.Minute} {
			t.Run(what+" after "+after.String(), func(t *testing.T) {
				simulate(t, func(w *world) {
					s := w.session("a")
					release := hold(w, s)
					w.pass(after)
					test(w, s, release, what)
				})
			})
		}
	}
}

func TestAReleaseThatEtcdDoesNotConfirmSaysSo(t *testing.T) {
	eachRelease(t, func(w *world, s *Session, release func(context.Context) error, what string) {
		ctx := w.timeout(2 * time.Second)
		if what == "Transfer" { // which reads first
			w.every("a", simetcd.Action{DropReply: true}, simetcd.Txn, simetcd.Delete)
		} else {
			w.Client("a").CutReplies()
		}
		err := release(ctx)
		require.ErrorIs(w, err, ErrUnconfirmed)
		require.ErrorIs(w, err, context.DeadlineExceeded)
		require.NotErrorIs(w, err, ErrLost)
		require.NotContains(w, err.Error(), "\n")
		if what != "Transfer" {
			require.ErrorIs(w, release(w.ctx), ErrReleased)
		}
		w.Intercept(nil)
		w.Client("a").Heal()
		w.pass(s.LeaseTTL()) // what ErrUnconfirmed promises
		require.Empty(w, w.keysOf(s.Lease()))
		require.NoError(w, s.Err())
	})
}

func TestAReleaseUnderAnEndedContextIsUnconfirmedAndDoneSoon(t *testing.T) {
	eachRelease(t, func(w *world, s *Session, release func(context.Context) error, what string) {
		if what == "Transfer" {
			return // the term goes on
		}
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		err := release(ctx)
		require.ErrorIs(w, err, ErrUnconfirmed)
		require.ErrorIs(w, err, context.Canceled)
		w.pass(time.Second)
		require.Empty(w, w.keysOf(s.Lease()))
	})
}

// etcd answers, and refuses to delete the key.
func TestAReleaseThatEtcdRefusesIsUnconfirmed(t *testing.T) {
	eachRelease(t, func(w *world, s *Session, release func(context.Context) error, what string) {
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Txn, simetcd.Delete)
		err := release(w.ctx)
		require.ErrorIs(w, err, ErrUnconfirmed)
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
		require.NotEmpty(w, w.keysOf(s.Lease()))
		w.Intercept(nil)
		w.pass(30 * time.Second)
		require.Empty(w, w.keysOf(s.Lease()))
	})
}

// The lease ends while a release waits for etcd. What was held was held until the release.
func TestAReleaseThatOutlivesItsLeaseIsUnconfirmed(t *testing.T) {
	eachRelease(t, func(w *world, s *Session, release func(context.Context) error, what string) {
		if what == "Transfer" {
			return // it waits for the list of candidates, and the term is lost meanwhile
		}
		w.Client("a").Cut()
		err := release(w.ctx)
		require.ErrorIs(w, err, ErrUnconfirmed)
		require.ErrorIs(w, err, ErrExpired, "it goes with the lease")
	})
}

func TestAReleaseDuringACloseIsUnconfirmed(t *testing.T) {
	eachRelease(t, func(w *world, s *Session, release func(context.Context) error, what string) {
		if what == "Transfer" {
			return // as above
		}
		w.Client("a").Cut()
		p := start(w, func(ctx context.Context) (any, error) { return nil, release(ctx) })
		w.pass(time.Second)
		require.Error(w, s.Close(w.timeout(time.Second)))
		_, err := p.result()
		require.ErrorIs(w, err, ErrUnconfirmed)
		require.ErrorIs(w, err, ErrSessionClosed)
	})
}

// What was lost before it was released is lost, and no matter of confirmation.
func TestAReleaseOfWhatIsLostIsNotUnconfirmed(t *testing.T) {
	for what, lose := range map[string]func(w *world, s *Session){
		"evicted": func(w *world, s *Session) {
			for _, key := range w.keysOf(s.Lease()) {
				w.DeleteKey(key)
			}
		},
		"revoked": func(w *world, s *Session) { w.RevokeLease(s.Lease()) },
		"expired": func(w *world, _ *Session) { w.Client("a").Cut(); w.pass(time.Minute) },
	} {
		t.Run(what, func(t *testing.T) {
			eachRelease(t, func(w *world, s *Session, release func(context.Context) error, _ string) {
				lose(w, s)
				err := release(w.ctx)
				require.ErrorIs(w, err, ErrLost)
				require.NotErrorIs(w, err, ErrUnconfirmed)
			})
		})
	}
}

// A release waits for its answer, and hears that the lease was revoked: the key is gone, and perhaps since before.
func TestAReleaseThatHearsOfARevocationIsALoss(t *testing.T) {
	eachRelease(t, func(w *world, s *Session, release func(context.Context) error, _ string) {
		w.every("a", simetcd.Action{DropRequest: true}, simetcd.Txn, simetcd.Delete)
		p := start(w, func(ctx context.Context) (any, error) { return nil, release(ctx) })
		w.pass(time.Second)
		w.RevokeLease(s.Lease())
		_, err := p.result()
		require.ErrorIs(w, err, ErrRevoked)
		require.NotErrorIs(w, err, ErrUnconfirmed)
	})
}

// Do and Run tell nothing of a release that is not confirmed, nor of a lease that ends after the work: the work is
// done, and was exclusive. Run logs it.
func TestDoAndRunReturnNoErrorForAnUnconfirmedRelease(t *testing.T) {
	errWorked := errors.New("what the work returns")
	dos := map[string]func(ctx context.Context, s *Session, work func() error) error{
		"Mutex.Do": func(ctx context.Context, s *Session, work func() error) error {
			return NewMutex(s, "m").Do(ctx, func(context.Context, *Lock) error { return work() })
		},
		"RWMutex.Do": func(ctx context.Context, s *Session, work func() error) error {
			return NewRWMutex(s, "m").Do(ctx, func(context.Context, *WriteLock) error { return work() })
		},
		"RWMutex.RDo": func(ctx context.Context, s *Session, work func() error) error {
			return NewRWMutex(s, "m").RDo(ctx, func(context.Context, *ReadLock) error { return work() })
		},
		"Semaphore.Do": func(ctx context.Context, s *Session, work func() error) error {
			return NewSemaphore(s, "m", 2).Do(ctx, 1, func(context.Context, *Permit) error { return work() })
		},
		"MultiMutex.Do": func(ctx context.Context, s *Session, work func() error) error {
			return NewMultiMutex(s, []string{"m", "n"}).Do(ctx, func(context.Context, *LockSet) error { return work() })
		},
		"Election.Run": func(ctx context.Context, s *Session, work func() error) error {
			return NewElection(s, "m").Run(ctx, "v", func(context.Context, *Term) error { return work() })
		},
	}
	for what, do := range dos {
		for _, bound := range []time.Duration{2 * time.Second, time.Hour} { // within the TTL, and beyond it
			for _, returns := range []error{nil, errWorked} {
				t.Run(what, func(t *testing.T) {
					simulate(t, func(w *world) {
						core, logs := logged.New(zapcore.WarnLevel)
						s := w.session("a", WithLogger(zap.New(core)))
						ctx := w.timeout(bound)
						err := do(ctx, s, func() error { w.Client("a").Cut(); return returns })
						if what == "Election.Run" {
							require.Equal(w, 1, logs.FilterMessage("etcd has not confirmed a resignation; the key is deleted in the background").Len())
						}
						require.Equal(w, returns, err)
					})
				})
			}
		}
	}
}
