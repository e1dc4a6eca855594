package etcdlock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// killed is what is left of a process after kill -9: etcd hears nothing more of it, and
// its files are closed.
func (w *world) killed(client string, sessions ...*Session) {
	w.Client(client).Cut()
	for _, s := range sessions {
		s.engine.LeaseFile().Close()
	}
}

// own is the session that a Run made for itself.
func own(term *Term) *Session { return &Session{engine: term.engine} }

func TestAProcessThatIsStartedAgainGoesOnWithItsTerm(t *testing.T) {
	for name, opts := range map[string][]RunOption{"": nil, "on a lease of its own": {WithStopTimeout(time.Minute)}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
				a := w.session("a", file)
				run := w.run(NewElection(a, "e"), nil, opts...)
				term := run.term()
				next := w.candidate(NewElection(w.session("b"), "e"), "B")
				o := w.observe(NewElection(w.session("o"), "e"), 0)
				w.pass(time.Minute)
				w.killed("a", a, own(term))
				w.pass(ttl / 2)

				again := w.run(NewElection(w.session("a2", file, WithOwner("a")), "e"), nil, opts...)
				began := time.Now()
				resumed := again.term()
				require.Less(w, time.Since(began), 100*time.Millisecond)
				require.Equal(w, term.Key(), resumed.Key())
				require.Equal(w, term.of.Entry().CreateRevision, resumed.of.Entry().CreateRevision, "it is the same term")
				require.Greater(w, resumed.Token(), term.Token(), "late writes of the dead process can be refused")
				w.pass(10 * time.Minute)
				next.isWaiting()
				require.Equal(w, []string{"of a"}, o.saw(), "nobody has noticed")
				require.NoError(w, resumed.Err())
				w.Client("a").Heal()
				run.cancel()
				<-run.done
				again.end()
				next.get()
			})
		})
	}
}

func TestAPlannedRestartGoesOnWithItsTerm(t *testing.T) {
	simulate(t, func(w *world) {
		n := newFakeNet()
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.detecting(n, "a", "10.0.0.1:7400", file)
		run := w.run(NewElection(a, "e"), nil, WithStopTimeout(time.Minute))
		term := run.term()
		next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
		w.pass(time.Minute)
		w.orphan(a)
		_, err := run.result()
		require.ErrorIs(w, err, ErrSessionClosed)
		require.ErrorIs(w, err, ErrOrphaned)
		w.pass(time.Second)
		again := w.run(NewElection(w.detecting(n, "a", "10.0.0.1:7400", file), "e"), nil, WithStopTimeout(time.Minute))
		require.Equal(w, term.Key(), again.term().Key())
		w.pass(time.Minute)
		next.isWaiting()
		again.end()
	})
}

func TestTwoProcessesNeverShareALeaseFile(t *testing.T) {
	simulate(t, func(w *world) {
		path := filepath.Join(t.TempDir(), "lease")
		a := w.session("a", WithLeaseFile(path))
		term := w.campaign(NewElection(a, "e"), "A")
		_, err := NewSession(w.timeout(time.Second), w.Client("b").Client, WithLeaseFile(path))
		require.ErrorIs(w, err, ErrLeaseFileInUse)
		require.ErrorIs(w, err, context.DeadlineExceeded)

		waits := start(w, func(ctx context.Context) (*Session, error) {
			return NewSession(ctx, w.Client("b").Client, WithLeaseFile(path), renewOn(w.Client("b")))
		})
		w.pass(time.Minute)
		waits.isWaiting()
		require.NoError(w, term.Err())
		require.NoError(w, a.Close(w.ctx))
		b := waits.get()
		w.sessions = append(w.sessions, b)
		require.NotEqual(w, a.Lease(), b.Lease())
		info, err := os.Stat(path)
		require.NoError(w, err)
		require.Equal(w, os.FileMode(0o600), info.Mode().Perm())
	})
}

// What was given back is not taken up again, though etcd has not heard of it yet.
func TestALeaseThatWasClosedIsNotTakenOver(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		id := a.Lease()
		w.campaign(NewElection(a, "e"), "A")
		w.Client("a").Cut()
		require.ErrorIs(w, a.Close(w.timeout(time.Second)), context.DeadlineExceeded)
		again := w.session("a2", file)
		require.Contains(w, w.Leases(), id)
		require.NotEqual(w, id, again.Lease())
	})
}

func TestWhatIsInTheLeaseFileIsOnlyTakenIfItIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	for name, content := range map[string]string{
		"nothing": "", "another lease": "00000000000004d2\n", "no lease": "0000000000000000\n", "garbage": "hello", "half of one": "0000",
		"too much": "00000000000004d2000\n", "negative": "f0000000000004d2\n",
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				require.NoError(w, os.WriteFile(path, []byte(content), 0o600))
				s := w.session("a", WithLeaseFile(path))
				names, err := s.Adopted(w.ctx)
				require.NoError(w, err)
				require.Empty(w, names)
				require.EqualValues(w, s.Lease(), s.engine.LeaseFile().Read())
				w.RevokeLease(s.Lease())
				w.pass(time.Minute)
				require.EqualValues(w, s.Lease(), s.engine.LeaseFile().Read(), "the present one")
			})
		})
	}
}

func TestALeaseInAFileIsTakenOverThoughEtcdIsAwayForAMoment(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		id := a.Lease()
		w.killed("a", a)
		w.Stop()
		again := start(w, func(ctx context.Context) (*Session, error) {
			c := w.Client("a2")
			return NewSession(ctx, c.Client, file, WithTTL(ttl), renewOn(c))
		})
		w.pass(5 * time.Second)
		again.isWaiting()
		w.Start()
		s := again.get()
		w.sessions = append(w.sessions, s)
		require.Equal(w, id, s.Lease())
	})
}

// Keys that a crash has left, and that the next process does not want, block no other session for long.
func TestWhatWasInheritedAndIsNotAskedForIsGivenUp(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a, b := w.session("a", file), w.session("b")
		w.lock(NewMutex(a, "wanted"))
		w.lock(NewMutex(a, "unwanted"))
		w.lock(NewMutex(b, "of-b"))
		w.campaign(NewElection(a, "election"), "A")
		w.campaign(NewElection(a, "preferred", WithPriority(5)), "A")
		_, err := NewSemaphore(a, "permits", 5).Acquire(w.ctx, 1)
		require.NoError(w, err)
		_, err = NewSemaphore(a, "permits", 5).Acquire(w.ctx, 2)
		require.NoError(w, err)
		waits := start(w, func(ctx context.Context) (*Lock, error) { return NewMutex(a, "of-b").Lock(ctx) })
		w.pass(time.Minute)
		waits.isWaiting()
		w.killed("a", a)

		again := w.session("a2", file)
		names, err := again.Adopted(w.ctx)
		require.NoError(w, err)
		require.ElementsMatch(w, []string{"wanted", "unwanted", "of-b", "election", "preferred", "permits"}, names)
		wanted := w.lock(NewMutex(again, "wanted"))
		names, err = again.Adopted(w.ctx)
		require.NoError(w, err)
		require.ElementsMatch(w, []string{"unwanted", "of-b", "election", "preferred", "permits"}, names)

		o := w.observe(NewElection(b, "election"), 0)
		require.NoError(w, again.ReleaseAdopted(w.ctx, "election", "wanted", "nothing"))
		w.pass(time.Second)
		require.Equal(w, []string{"A", vacant}, o.saw(), "and nothing in between")
		require.NoError(w, wanted.Err(), "it is not touched")
		next := start(w, func(ctx context.Context) (*Lock, error) { return NewMutex(b, "unwanted").Lock(ctx) })
		w.pass(ttl / 2)
		next.isWaiting()
		next.get()
		require.NoError(w, wanted.Err())
		require.Len(w, w.values("of-b"), 1)
		w.empty("preferred")
		w.empty("permits")
		names, err = again.Adopted(w.ctx)
		require.NoError(w, err)
		require.Empty(w, names)
	})
}

func TestInheritedKeysStayWhereTheSessionWasGivenTheLeaseByItsID(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		w.lock(NewMutex(a, "m"))
		id := w.orphan(a)
		again := w.session("a2", WithLease(id))
		w.pass(time.Hour)
		names, err := again.Adopted(w.ctx)
		require.NoError(w, err)
		require.Equal(w, []string{"m"}, names)
		w.first(2, "a2", simetcd.TxnReadOnly, simetcd.Action{DropReply: true})
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		require.ErrorIs(w, again.ReleaseAdopted(ctx), context.DeadlineExceeded)
		require.NoError(w, again.ReleaseAdopted(w.ctx))
		w.empty("m")
		_, err = NewSession(w.ctx, w.Client("a").Client, WithLease(id), WithLeaseFile("x"))
		require.ErrorIs(w, err, ErrInvalidOption)
	})
}

// report R3
func TestAnotherTTLOrLockDelayThanTheFormerProcessHadIsInForce(t *testing.T) {
	for name, tc := range map[string]struct {
		had, asks []SessionOption
		lease     time.Duration
		kept      bool
	}{
		"another margin":             {nil, []SessionOption{WithMargin(5 * time.Second)}, ttl, true},
		"a lock-delay":               {nil, []SessionOption{WithLockDelay(30 * time.Second)}, ttl + 30*time.Second, false},
		"no lock-delay any more":     {[]SessionOption{WithLockDelay(5 * time.Second)}, nil, ttl, false},
		"a longer TTL":               {nil, []SessionOption{WithTTL(20 * time.Second)}, 20 * time.Second, false},
		"a shorter TTL":              {nil, []SessionOption{WithTTL(5 * time.Second)}, 5 * time.Second, false},
		"a margin above the old TTL": {nil, []SessionOption{WithTTL(time.Minute), WithMargin(20 * time.Second)}, time.Minute, false},
		"both in the same lease":     {nil, []SessionOption{WithTTL(6 * time.Second), WithLockDelay(4 * time.Second)}, ttl, true},
	} {
		for _, twin := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " for a lease of its own"}[twin], func(t *testing.T) {
				simulate(t, func(w *world) {
					var opts []RunOption
					if twin {
						opts = append(opts, WithStopTimeout(time.Minute))
					}
					core, logs := zapobserver.New(zap.WarnLevel)
					file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
					a := w.session("a", append(tc.had, file)...)
					run := w.run(NewElection(a, "e"), nil, opts...)
					term := run.term()
					w.pass(time.Second)
					w.killed("a", a, own(term))
					run.cancel()
					began := time.Now()
					s := w.session("a2", append(tc.asks, file, WithLogger(zap.New(core)))...)
					again := w.run(NewElection(s, "e"), nil, opts...)
					resumed := again.term()
					require.Less(w, time.Since(began), time.Second)
					require.Greater(w, resumed.Token(), term.Token())
					require.Equal(w, tc.kept, resumed.Key() == term.Key())
					for _, of := range []*Session{s, own(resumed)} {
						require.Equal(w, tc.lease, of.LeaseTTL())
					}
					told := 0
					if !tc.kept {
						told = 1
						if twin {
							told = 2
						}
					}
					require.Len(w, logs.FilterMessageSnippet("another TTL or lock-delay").All(), told)
					w.pass(2 * time.Minute)
					require.NoError(w, resumed.Err())
					again.end()
				})
			})
		}
	}
}

// report R3
func TestALeaseByItsIDIsRefusedIfItDoesNotFit(t *testing.T) {
	simulate(t, func(w *world) {
		id := w.GrantLease(5 * time.Second)
		c := w.Client("a")
		with := func(opts ...SessionOption) error {
			_, err := NewSession(w.ctx, c.Client, append(opts, WithLease(id), renewOn(c))...)
			return err
		}
		require.ErrorIs(w, with(WithLockDelay(5*time.Second)), ErrInvalidOption)
		require.ErrorContains(w, with(WithLockDelay(5*time.Second)), "granted for 5s")
		require.ErrorIs(w, with(WithMargin(3*time.Second)), ErrInvalidOption)
		core, logs := zapobserver.New(zap.WarnLevel)
		s := w.session("b", WithLease(id), WithTTL(7*time.Second), WithLogger(zap.New(core)))
		require.Equal(w, 5*time.Second, s.TTL())
		require.Len(w, logs.FilterMessageSnippet("WithTTL").All(), 1)
	})
}
