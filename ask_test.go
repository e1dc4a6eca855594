package etcdlock

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// askLater asks in the background.
func (w *world) askLater(s *Session, name, reason string) *pending[struct{}] {
	p := start(w, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.Ask(ctx, name, reason) })
	w.pass(100 * time.Millisecond)
	return p
}

// told receives a request, which must come now.
func (w *world) told(from <-chan ReleaseRequest) ReleaseRequest {
	w.Helper()
	synctest.Wait()
	select {
	case r, ok := <-from:
		require.True(w, ok, "it is closed")
		return r
	default:
		require.FailNow(w, "nobody has asked")
		return ReleaseRequest{}
	}
}

func (w *world) notTold(from <-chan ReleaseRequest) {
	w.Helper()
	synctest.Wait()
	select {
	case r, ok := <-from:
		require.FailNow(w, "told", "%+v, %v", r, ok)
	default:
	}
}

func TestAHolderIsToldOfEverybodyWhoAsksHimToLetGo(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		require.NoError(w, b.Ask(w.ctx, "m", "for nothing"), "nobody holds")
		l := w.lock(NewMutex(a, "m"))
		before := w.askLater(b, "m", "before it listens")
		asked := l.Asked()
		w.pass(100 * time.Millisecond)
		r := w.told(asked)
		require.Equal(w, "before it listens", r.Reason)
		require.Equal(w, "m", r.Name)
		require.Equal(w, "b", r.Owner)
		require.NotZero(w, r.PID)
		after := w.askLater(w.session("c"), "m", "after")
		own := w.askLater(a, "m", "by its own session")
		require.Equal(w, "after", w.told(asked).Reason)
		require.Equal(w, "by its own session", w.told(asked).Reason)
		w.CutWatches()
		w.pass(10 * time.Second)
		w.notTold(asked) // once is enough
		require.Equal(w, asked, l.Asked())
		for _, p := range []*pending[struct{}]{before, after, own} {
			p.isWaiting()
		}
		require.NoError(w, l.Err(), "the holder decides")
		require.NoError(w, l.Unlock(w.ctx))
		for _, p := range []*pending[struct{}]{before, after, own} {
			p.get()
		}
		_, open := <-asked
		require.False(w, open)
		w.pass(time.Second)
		require.Empty(w, w.Keys(""), "the requests are gone")
		w.allGone()
	})
}

func TestTheNextHolderIsNotToldWhatTheOneBeforeWasAsked(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		l := w.lock(NewMutex(a, "m"))
		next := start(w, NewMutex(b, "m").Lock)
		w.pass(100 * time.Millisecond)
		p := w.askLater(w.session("c"), "m", "")
		w.Client("c").Cut() // so that the request stays for a while
		require.NoError(w, l.Unlock(w.ctx))
		asked := next.get().Asked()
		w.pass(time.Second)
		require.Len(w, w.Keys("m\x00"), 1)
		w.notTold(asked)
		require.NoError(w, next.value.Unlock(w.ctx))
		again := w.lock(NewMutex(a, "m")) // the same key, another entry
		asked = again.Asked()
		w.pass(time.Second)
		require.Len(w, w.Keys("m\x00"), 1)
		w.notTold(asked)
		w.Client("c").Heal()
		p.get()
		require.NoError(w, again.Unlock(w.ctx))
		w.allGone()
	})
}

func TestAllWhoHoldAreAsked(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		r1, err := NewRWMutex(a, "r").RLock(w.ctx)
		require.NoError(w, err)
		r2, err := NewRWMutex(b, "r").RLock(w.ctx)
		require.NoError(w, err)
		s1, err := NewSemaphore(a, "s", 2).Acquire(w.ctx, 1)
		require.NoError(w, err)
		s2, err := NewSemaphore(a, "s", 2).Acquire(w.ctx, 1)
		require.NoError(w, err)
		term, err := NewElection(b, "e").Campaign(w.ctx, "v")
		require.NoError(w, err)
		set := w.lockAll(a, "p", "q")
		for _, about := range []struct {
			name    string
			asked   []<-chan ReleaseRequest
			release []func(context.Context) error
		}{
			{"r", []<-chan ReleaseRequest{r1.Asked(), r2.Asked()}, []func(context.Context) error{r1.Unlock, r2.Unlock}},
			{"s", []<-chan ReleaseRequest{s1.Asked(), s2.Asked()}, []func(context.Context) error{s1.Release, s2.Release}},
			{"e", []<-chan ReleaseRequest{term.Asked()}, []func(context.Context) error{term.Resign}},
			{"q", []<-chan ReleaseRequest{set.Asked()}, []func(context.Context) error{set.Unlock}},
		} {
			p := w.askLater(c, about.name, "please")
			for _, asked := range about.asked {
				r := w.told(asked)
				require.Equal(w, about.name, r.Name)
				require.Equal(w, "please", r.Reason)
			}
			for _, release := range about.release {
				w.pass(time.Second)
				p.isWaiting()
				require.NoError(w, release(w.ctx))
			}
			p.get()
		}
		w.allGone()
	})
}

func TestARequestGoesWithItsAsker(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		l := w.lock(NewMutex(a, "m"))
		requests := func() int { return len(w.Keys("m\x00")) }
		b := w.session("b")
		p := w.askLater(b, "m", "")
		require.Equal(w, 1, requests())
		p.cancel()
		p.fails(context.Canceled)
		w.pass(time.Second)
		require.Zero(w, requests())

		p = w.askLater(b, "m", "")
		w.RevokeLease(b.Lease())
		p.fails(ErrLost, ErrRevoked)
		require.NotErrorIs(w, p.err, context.Canceled, "nobody cancelled")
		require.Zero(w, requests())

		p = w.askLater(b, "m", "")
		w.orphan(b)
		p.fails(ErrOrphaned)
		require.Zero(w, requests(), "a successor must not seem to ask")

		c := w.session("c")
		p = w.askLater(c, "m", "")
		require.NoError(w, c.Close(w.ctx))
		p.fails(ErrSessionClosed)
		require.ErrorIs(w, c.Ask(w.ctx, "m", ""), ErrSessionClosed)
		require.ErrorIs(w, (*Session)(nil).Ask(w.ctx, "m", ""), ErrSessionClosed)
		require.ErrorIs(w, a.Ask(w.ctx, "m/", ""), ErrInvalidName)
		require.NoError(w, l.Unlock(w.ctx))
	})
}

// trap A4
func TestARequestWhoseAnswerWasLostIsTakenBackToo(t *testing.T) {
	for _, act := range []simetcd.Action{{DropReply: true}, {DelayRequest: 5 * time.Second}, {DelayReply: 5 * time.Second}} {
		simulate(t, func(w *world) {
			l := w.lock(NewMutex(w.session("a"), "m"))
			b := w.session("b")
			w.next("b", simetcd.Put, act)
			p := w.askLater(b, "m", "")
			p.cancel()
			p.fails(context.Canceled)
			w.pass(20 * time.Second)
			require.Empty(w, w.Keys("m\x00"))
			require.NoError(w, l.Unlock(w.ctx))
			w.allGone()
		})
	}
}

func TestWithoutPermissionNobodyIsMisled(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := w.session("a"), w.session("b")
		l := w.lock(NewMutex(a, "m"))
		w.every("b", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Put)
		require.ErrorIs(w, b.Ask(w.ctx, "m", ""), rpctypes.ErrPermissionDenied)
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}, simetcd.Range, simetcd.Watch)
		asked := l.Asked()
		w.pass(10 * time.Second)
		w.notTold(asked) // and it is not closed: the hold goes on
		w.Intercept(nil)
		require.NoError(w, l.Unlock(w.ctx))
		_, open := <-asked
		require.False(w, open)
		_, open = <-l.Asked()
		require.False(w, open, "of a hold that is over")
		w.allGone()
	})
}

func TestWhoWasAskedDoesNotKeepTheKey(t *testing.T) {
	simulate(t, func(w *world) {
		m := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
		l := w.lock(m)
		asked := l.Asked()
		w.pass(time.Second)
		p := w.askLater(w.session("b"), "m", "")
		w.told(asked)
		released := time.Now()
		require.NoError(w, l.Unlock(w.ctx))
		p.get()
		require.Less(w, p.at.Sub(released), time.Second)
		w.empty("m")
		w.allGone()
	})
}

// The request is to the key, so it does not matter which of several nested holds has listened.
func TestWhoWasAskedInANestedHoldDoesNotKeepTheKey(t *testing.T) {
	for _, inner := range []bool{false, true} {
		simulate(t, func(w *world) {
			m := NewMutex(w.session("a"), "m", WithRetention(time.Hour), WithReentry(2))
			outer := w.lock(m)
			nested, err := m.Lock(outer.Context())
			require.NoError(w, err)
			asked := outer.Asked()
			if inner {
				asked = nested.Asked()
			}
			w.pass(time.Second)
			p := w.askLater(w.session("b"), "m", "")
			w.told(asked)
			require.NoError(w, nested.Unlock(w.ctx))
			p.isWaiting()
			released := time.Now()
			require.NoError(w, outer.Unlock(w.ctx))
			p.get()
			require.Less(w, p.at.Sub(released), time.Second)
			w.empty("m")
			w.allGone()
		})
	}
}

// A process is killed in a call of Ask and started again with its lease file. Its request must not stand, and be told to
// each holder that listens, for as long as the new process lives. The fleet's schedules 10 and 219 ended so. // report R1
func TestARequestOfAKilledProcessIsGivenUp(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		held := w.lock(NewMutex(w.session("holder"), "m"))
		a := w.session("a", file)
		for range 2 {
			w.askLater(a, "m", "why not")
		}
		require.Len(w, w.Keys(ask.Prefix("m")), 2)
		w.killed("a", a)
		again := w.session("again", file)
		asking := w.askLater(again, "m", "I am back")
		w.pass(ttl + 5*time.Second)
		kvs := w.Keys(ask.Prefix("m"))
		require.Len(w, kvs, 1, "the request of the process that lives")
		require.Contains(w, string(kvs[0].Value), "I am back")
		require.NoError(w, held.Unlock(w.ctx))
		asking.get()
		w.pass(time.Second)
		require.Empty(w, w.Keys(ask.Prefix("m")))
		w.Client("a").Heal()
	})
}

// A client without the namespace of the holder sees another beginning of its key.
func TestARequestReachesAHolderInANamespace(t *testing.T) {
	simulate(t, func(w *world) {
		c := w.Client("a").Client
		c.KV, c.Watcher, c.Lease = namespace.NewKV(c.KV, "team/"), namespace.NewWatcher(c.Watcher, "team/"), namespace.NewLease(c.Lease, "team/")
		a, err := NewSession(w.ctx, c, WithTTL(ttl))
		require.NoError(w, err)
		w.sessions = append(w.sessions, a)
		l := w.lock(NewMutex(a, "m"))
		asked := l.Asked()
		p := w.askLater(w.session("operator"), "team/m", "maintenance")
		require.Equal(w, "m", w.told(asked).Name)
		require.NoError(w, l.Unlock(w.ctx))
		p.get()
	})
}
