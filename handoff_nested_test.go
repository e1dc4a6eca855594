package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// used is a way to acquire a name. It returns what releases it.
type used struct {
	title string
	take  func(s *Session, name string) func(context.Context) (func(context.Context) error, error)
}

// released makes a function that acquires return what releases.
func released[T interface{ Unlock(context.Context) error }](take func(context.Context) (T, error)) func(context.Context) (func(context.Context) error, error) {
	return func(ctx context.Context) (func(context.Context) error, error) {
		l, err := take(ctx)
		if err != nil {
			return nil, err
		}
		return l.Unlock, nil
	}
}

type takes = func(context.Context) (func(context.Context) error, error)

var waysToUse = []used{
	{"Lock", func(s *Session, name string) takes { return released(NewMutex(s, name).Lock) }},
	{"with retention", func(s *Session, name string) takes {
		return released(NewMutex(s, name, WithRetention(time.Second)).Lock)
	}},
	{"write lock", func(s *Session, name string) takes { return released(NewRWMutex(s, name).Lock) }},
	{"read lock", func(s *Session, name string) takes { return released(NewRWMutex(s, name).RLock) }},
	{"several names", func(s *Session, name string) takes { return released(NewMultiMutex(s, []string{name, "z"}).Lock) }},
	{"permit", func(s *Session, name string) takes {
		return func(ctx context.Context) (func(context.Context) error, error) {
			p, err := NewSemaphore(s, name, 2).Acquire(ctx, 2)
			if err != nil {
				return nil, err
			}
			return p.Release, nil
		}
	}},
	{"leadership", func(s *Session, name string) takes {
		return func(ctx context.Context) (func(context.Context) error, error) {
			term, err := NewElection(s, name).Campaign(ctx, "v")
			if err != nil {
				return nil, err
			}
			return term.Resign, nil
		}
	}},
}

var waysToTry = []used{
	{"TryLock", func(s *Session, name string) takes { return released(NewMutex(s, name).TryLock) }},
	{"a try of a write lock", func(s *Session, name string) takes { return released(NewRWMutex(s, name).TryLock) }},
	{"a try of a read lock", func(s *Session, name string) takes { return released(NewRWMutex(s, name).TryRLock) }},
	{"a try of several names", func(s *Session, name string) takes {
		return released(NewMultiMutex(s, []string{name, "z"}).TryLock)
	}},
	{"a try of a permit", func(s *Session, name string) takes {
		return func(ctx context.Context) (func(context.Context) error, error) {
			p, err := NewSemaphore(s, name, 2).TryAcquire(ctx, 2)
			if err != nil {
				return nil, err
			}
			return p.Release, nil
		}
	}},
}

// putBeside writes keys beside names inside a name, as sessions do that have used them. One is in front of all
// entries of the name, in the order of keys, and many are behind them.
func (w *world) putBeside(name string, n int) {
	inner := map[bool]string{true: " ", false: "x"}[n == 1]
	for i := range n {
		w.PutKey(fmt.Sprintf("%s/%s%02d\x00turn/1f", name, inner, i), "", 0)
	}
}

// Keys beside names inside a name are not in its queue: before, between and behind its entries.
func TestWhatLiesBesideNamesInsideANameIsNoEntry(t *testing.T) {
	modes := []struct {
		title string
		opt   SessionOption
	}{
		{"short", sessionOptionFunc(func(*sessionConfig) {})},
		{"long", sessionOptionFunc(func(c *sessionConfig) { c.Hooks.ShortQueue, c.Hooks.Prefetch = -1, 1 })},
		{"marked", marks()},
	}
	for _, n := range []int{1, 40} {
		for _, mode := range modes {
			for _, use := range append(waysToUse, waysToTry...) {
				t.Run(fmt.Sprint(use.title, ", ", mode.title, ", ", n), func(t *testing.T) {
					simulate(t, func(w *world) {
						w.putBeside("m", n)
						for i := range 2 { // the second time with what is known by then
							release, err := use.take(w.session(fmt.Sprint("a", i), mode.opt), "m")(w.timeout(50 * time.Millisecond))
							require.NoError(w, err)
							require.NoError(w, release(w.ctx))
						}
					})
				})
			}
			for _, use := range waysToUse {
				t.Run(fmt.Sprint("queue, ", use.title, ", ", mode.title, ", ", n), func(t *testing.T) {
					simulate(t, func(w *world) {
						a, b, c := w.session("a", mode.opt), w.session("b", mode.opt), w.session("c", mode.opt)
						first, err := use.take(a, "m")(w.ctx)
						require.NoError(w, err)
						w.putBeside("m", n)
						second := start(w, use.take(b, "m"))
						w.pass(50 * time.Millisecond)
						w.putBeside("m", n)
						third := start(w, use.take(c, "m"))
						w.pass(50 * time.Millisecond)
						w.putBeside("m", n)
						if use.title != "read lock" {
							second.isWaiting()
							third.isWaiting()
						}
						began := time.Now()
						require.NoError(w, first(w.ctx))
						require.NoError(w, second.get()(w.ctx))
						require.NoError(w, third.get()(w.ctx))
						require.Less(w, time.Since(began), 200*time.Millisecond)
					})
				})
			}
		}
	}
}

// A try that reads a few keys finds none but those beside names inside its own. It is refused nevertheless if
// there is an entry behind them.
func TestATryIsRefusedBehindManyKeysBesideOtherNames(t *testing.T) {
	for _, use := range waysToTry {
		t.Run(use.title, func(t *testing.T) {
			simulate(t, func(w *world) {
				held := w.lock(NewMutex(w.session("a"), "m"))
				for i := range 40 {
					w.PutKey(fmt.Sprintf("m/ %02d\x00turn/1f", i), "", 0)
				}
				for range 2 {
					_, err := use.take(w.session("b"), "m")(w.ctx)
					require.ErrorIs(w, err, ErrLocked)
				}
				require.NoError(w, held.Unlock(w.ctx))
			})
		})
	}
}

// Leaders are told, and queues listed, without what lies beside names inside theirs.
func TestAnElectionWithKeysBesideNamesInsideIts(t *testing.T) {
	simulate(t, func(w *world) {
		w.putBeside("e", 40)
		s := w.session("a")
		e := NewElection(s, "e")
		_, err := e.Leader(w.ctx)
		require.ErrorIs(w, err, ErrNoLeader)
		term, err := e.Campaign(w.ctx, "v")
		require.NoError(w, err)
		leader, err := e.Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "v", leader.Value)
		for leader, err := range e.Observe(w.ctx) {
			require.NoError(w, err)
			require.Equal(w, "v", leader.Value)
			break
		}
		all, err := e.Candidates(w.ctx)
		require.NoError(w, err)
		require.Len(w, all, 1)
		queue, err := e.Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, queue, 1)
		require.NoError(w, term.Resign(w.ctx))
	})
}

// A name inside another one was used by sessions that mark their entries. The other one can be used at once.
func TestANameMayBeUsedAfterOneInsideIt(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.lock(NewMutex(w.session("a", marks()), "jobs/1"))
		b := start(w, NewMutex(w.session("b", marks()), "jobs/1").Lock)
		w.pass(50 * time.Millisecond)
		require.NoError(w, a.Unlock(w.ctx))
		last := b.get()
		_, err := NewMutex(w.session("c"), "jobs").Lock(w.timeout(500 * time.Millisecond))
		require.ErrorIs(w, err, ErrNestedName, "it is in use")
		require.NoError(w, last.Unlock(w.ctx))
		require.Equal(w, 1, w.inboxes("jobs/1"))
		w.pass(100 * time.Millisecond)
		w.PutKey("jobs/\x00turn/1f", "", 0) // beside a name with a slash
		l, err := NewMutex(w.session("d"), "jobs").Lock(w.timeout(50 * time.Millisecond))
		require.NoError(w, err)
		require.NoError(w, l.Unlock(w.ctx))
	})
}

// A key is kept while others use a name inside its own: no other entry has come. The watch, and a reading when
// the watch has ended, leave out what lies beside the other name.
func TestAKeyIsKeptThoughKeysBesideNamesInsideItsComeAndGo(t *testing.T) {
	for _, n := range []int{1, 40} {
		simulate(t, func(w *world) {
			m := NewMutex(w.session("a"), "m", WithRetention(time.Hour))
			w.putBeside("m", n)
			token := w.keep(m)
			for range 5 {
				w.putBeside("m", n)
				w.pass(2 * time.Second)
				w.CutWatches()
				w.pass(2 * time.Second)
			}
			again := w.lock(m)
			require.Equal(w, token, again.Token(), "it was kept")
			require.NoError(w, again.Unlock(w.ctx))
		})
	}
}

// An entry comes while the watch of a kept key is broken. The reading that follows finds it behind many keys
// beside names inside the own one.
func TestAKeptKeyGoesForAnEntryBehindManyKeysBesideOtherNames(t *testing.T) {
	simulate(t, func(w *world) {
		for i := range 40 {
			w.PutKey(fmt.Sprintf("m/ %02d\x00turn/1f", i), "", 0)
		}
		w.keep(NewMutex(w.session("a"), "m", WithRetention(time.Hour)))
		w.pass(2 * time.Second)
		w.every("a", simetcd.Action{Err: rpctypes.ErrGRPCNoLeader}, simetcd.Watch)
		w.CutWatches()
		other := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(50 * time.Millisecond)
		w.Compact(w.Revision())
		w.Intercept(nil)
		w.pass(2 * time.Second)
		require.NoError(w, other.get().Unlock(w.ctx))
	})
}
