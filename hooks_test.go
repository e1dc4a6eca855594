package etcdlock

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestATraceHearsOfEachCall(t *testing.T) {
	simulateEven(t, func(w *world) {
		s, r := w.traced("a")
		other := w.session("b")
		mu := NewMutex(s, "m")
		l := w.lock(mu)
		require.Equal(w, []string{"start mutex m try=false", "held mutex m free after 2ms"}, r.take())
		_, err := mu.TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		require.Equal(w, []string{"start mutex m try=true", "failed m locked"}, r.take())
		_, err = mu.Lock(l.Context())
		require.ErrorIs(w, err, ErrDeadlock)
		require.Equal(w, []string{"start mutex m try=false", "deadlock m", "failed m deadlock"}, r.take())
		_, err = mu.Lock(w.timeout(time.Second))
		require.ErrorIs(w, err, ErrLocked)
		require.Equal(w, []string{"start mutex m try=false", "queued m behind 1", "failed m deadline_exceeded"}, r.take())
		w.unlock(l.Unlock)
		require.Equal(w, []string{"end m released after 1s", "release m "}, r.take())
		require.ErrorIs(w, l.Unlock(w.ctx), ErrReleased)
		require.Equal(w, []string{"release m released"}, r.take())

		theirs := w.lock(NewMutex(other, "m"))
		wait := start(w, mu.Lock)
		wait.isWaiting()
		w.pass(time.Second)
		w.unlock(theirs.Unlock)
		l = wait.get()
		require.Equal(w, []string{"start mutex m try=false", "queued m behind 1", "held mutex m queued after 1.002s"}, r.take())
		w.unlock(l.Unlock)
		r.take()

		slice := NewMutex(s, "m", WithTimeSlice(time.Hour))
		l = w.lock(slice)
		waits := w.lockers(2, slice)
		r.take()
		w.unlock(l.Unlock)
		require.Contains(w, r.take(), "held mutex m local after 0s")
		w.unlock(waits[0].get().Unlock)
		w.unlock(waits[1].get().Unlock)
		r.take()

		kept := NewMutex(s, "kept", WithRetention(time.Minute))
		w.unlock(w.lock(kept).Unlock)
		r.take()
		w.unlock(w.lock(kept).Unlock)
		require.Equal(w, []string{"start mutex kept try=false", "held mutex kept retained after 0s", "end kept released after 0s", "release kept "}, r.take())
	})
}

func TestATraceHearsOfEachKind(t *testing.T) {
	simulateEven(t, func(w *world) {
		s, r := w.traced("a")
		rw := NewRWMutex(s, "rw")
		read := w.read(rw)
		write, err := read.Upgrade(w.ctx)
		require.NoError(w, err)
		read, err = write.Downgrade(w.ctx)
		require.NoError(w, err)
		w.unlock(read.Unlock)
		require.Equal(w, []string{
			"start rw_read rw try=false", "held rw_read rw free after 2ms",
			"start rw_write rw try=false", "end rw released after 6ms", "held rw_write rw queued after 6ms",
			"start rw_read rw try=false", "end rw released after 2ms", "held rw_read rw local after 2ms",
			"end rw released after 0s", "release rw ",
		}, r.take())
		w.unlock(w.write(rw).Unlock)
		require.Contains(w, r.take(), "held rw_write rw free after 2ms")
		w.unlock(w.acquire(NewSemaphore(s, "sem", 2), 1).Release)
		require.Contains(w, r.take(), "held semaphore sem free after 2ms")
		w.unlock(w.campaign(NewElection(s, "e"), "A").Resign)
		require.Contains(w, r.take(), "held election e free after 2ms")
		w.unlock(w.lockAll(s, "x", "y").Unlock)
		require.Equal(w, []string{"start set x try=false", "held set x free after 2ms", "end x released after 0s", "release x "}, r.take())
		require.Zero(w, r.unended())
	})
}

// trace of what a hold is, and the ends of all ways.
func TestATraceHearsOfEachEndOnce(t *testing.T) {
	for word, end := range map[string]func(w *world, s *Session, l *Lock){
		"released":      func(w *world, _ *Session, l *Lock) { w.unlock(l.Unlock) },
		"evicted":       func(w *world, _ *Session, l *Lock) { w.DeleteKey(l.Key()) },
		"revoked":       func(w *world, s *Session, _ *Lock) { w.RevokeLease(s.Lease()) },
		"expired":       func(w *world, _ *Session, _ *Lock) { w.Client("a").Cut(); w.pass(2 * ttl); w.Client("a").Heal() },
		"closed":        func(w *world, s *Session, _ *Lock) { require.NoError(w, s.Close(w.ctx)) },
		"orphaned":      func(w *world, s *Session, _ *Lock) { w.orphan(s) },
		"client_closed": func(w *world, _ *Session, _ *Lock) { require.NoError(w, w.Client("a").Close()) },
	} {
		t.Run(word, func(t *testing.T) {
			simulate(t, func(w *world) {
				var ends []HoldEndInfo
				var grant AcquireEndInfo
				s := w.session("a", WithTrace(&Trace{
					AcquireEnd: func(_ context.Context, i AcquireEndInfo) { grant = i },
					HoldEnd:    func(_ context.Context, i HoldEndInfo) { ends = append(ends, i) },
				}))
				l := w.lock(NewMutex(s, "m"))
				require.Equal(w, HoldInfo{
					Kind: KindMutex, Name: "m", Key: l.Key(), Token: l.Token(), CreateRevision: l.CreateRevision(), Lease: s.Lease(), Since: grant.Hold.Since,
				}, grant.Hold)
				w.pass(3 * time.Second)
				end(w, s, l)
				w.pass(ttl)
				require.Len(w, ends, 1)
				require.Equal(w, grant.Hold, ends[0].Hold)
				require.Equal(w, word, ErrorType(ends[0].Cause))
				require.Equal(w, l.Err(), ends[0].Cause)
				require.GreaterOrEqual(w, ends[0].Held, 3*time.Second)
				_ = l.Unlock(w.ctx)
				synctest.Wait()
				require.Len(w, ends, 1)
			})
		})
	}
}

func TestATraceHearsOfTheSession(t *testing.T) {
	simulate(t, func(w *world) {
		s, r := w.traced("a")
		w.Client("a").Cut()
		w.pass(2 * ttl)
		w.Client("a").Heal()
		w.pass(ttl)
		lines := r.take()
		require.Contains(w, lines, "no renewal")
		require.Contains(w, lines, "session connected suspended deadline_exceeded")
		require.Contains(w, lines, "session suspended lost expired")
		require.Equal(w, "session lost connected ", lines[len(lines)-1])
		require.NoError(w, s.Close(w.ctx))
		require.Equal(w, []string{"session connected closed closed"}, r.take())
	})
}

func TestATraceHearsOfWhatMayBeLeftBehind(t *testing.T) {
	simulate(t, func(w *world) {
		s, r := w.traced("a")
		w.every("a", simetcd.Action{DropReply: true}, simetcd.Txn)
		_, err := NewMutex(s, "m").Lock(w.timeout(100 * time.Millisecond))
		require.Error(w, err)
		w.Intercept(nil)
		w.pass(time.Second)
		require.Contains(w, r.take(), "left behind m")
		w.empty("m")
	})
}

func TestATraceHearsOfRequestsToRelease(t *testing.T) {
	simulate(t, func(w *world) {
		s, r := w.traced("a")
		l := w.lock(NewMutex(s, "m"))
		asked := l.Asked()
		p := w.askLater(w.session("b"), "m", "maintenance")
		w.told(asked)
		require.Contains(w, r.take(), "asked m maintenance")
		w.unlock(l.Unlock)
		p.get()
	})
}

// WithOnRole, WithOnLeader and WithOnStuck hear the same as the hooks of the session.
func TestATraceHearsOfARunWhatItsCallbacksHear(t *testing.T) {
	simulate(t, func(w *world) {
		s, r := w.traced("a")
		var roles, leaders, stucks []string
		d := newDeaf()
		run := w.run(NewElection(s, "e"), d.work, WithStopTimeout(time.Second),
			WithOnRole(func(role Role) { roles = append(roles, "role e "+role.String()) }),
			WithOnLeader(func(l Leader) { leaders = append(leaders, "leader e \""+l.Value+"\"") }),
			WithOnStuck(func(st StuckTerm) { stucks = append(stucks, "stuck "+st.Term.Name()) }),
			WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error { return nil }}))
		run.term()
		w.pass(10 * time.Second)
		run.cancel()
		require.ErrorIs(w, <-d.told, context.Canceled)
		w.pass(2 * time.Second)
		close(d.let)
		_, err := run.result()
		require.ErrorIs(w, err, context.Canceled)
		lines := r.take()
		for prefix, want := range map[string][]string{"role ": roles, "leader ": leaders, "stuck ": stucks} {
			var got []string
			for _, line := range lines {
				if regexp.MustCompile("^" + prefix).MatchString(line) {
					got = append(got, line)
				}
			}
			require.Equal(w, want, got)
			require.NotEmpty(w, got)
		}
		require.Contains(w, lines, "health e unhealthy")
		require.Contains(w, lines, "health e ")
		require.Contains(w, lines, "session unknown connected ", "of the session with the lease of the term")
		require.Contains(w, lines, "term e led 12s told "+ErrorType(context.Canceled)+" stopped in 2s lost ")
	})
}

// Several traces are called in their order, and each one gets the context of the one before.
func TestSeveralTraces(t *testing.T) {
	simulate(t, func(w *world) {
		type key string
		var calls []string
		trace := func(name string) *Trace {
			return &Trace{
				AcquireStart: func(ctx context.Context, _ AcquireStartInfo) context.Context {
					return context.WithValue(ctx, key(name), name)
				},
				AcquireEnd: func(ctx context.Context, _ AcquireEndInfo) {
					require.Equal(w, "x", ctx.Value(key("x")))
					require.Equal(w, "y", ctx.Value(key("y")))
					calls = append(calls, name)
				},
			}
		}
		s := w.session("a", WithTrace(trace("x"), nil), WithTrace(trace("y")), WithTrace())
		l := w.lock(NewMutex(s, "m"))
		require.Equal(w, []string{"x", "y"}, calls)
		require.Equal(w, "x", l.Context().Value(key("x")), "the hold has the values of its call")
		w.unlock(l.Unlock)
		require.Nil(w, w.session("b", WithTrace(nil, nil)).cfg.tracer)
	})
}

// While every hook blocks, each hold ends at its deadline, and other sessions hold.
func TestHooksThatBlockDoNoHarmToExclusion(t *testing.T) {
	simulate(t, func(w *world) {
		hang := make(chan struct{})
		wait := func() { <-hang }
		s := w.session("a", WithTrace(&Trace{
			HoldEnd:      func(context.Context, HoldEndInfo) { wait() },
			ReleaseEnd:   func(context.Context, ReleaseEndInfo) { wait() },
			Renewal:      func(context.Context, RenewalInfo) { wait() },
			SessionState: func(context.Context, SessionStateInfo) { wait() },
			LeftBehind:   func(context.Context, LeftBehindInfo) { wait() },
			AcquireEnd: func(_ context.Context, i AcquireEndInfo) {
				if i.Name == "mine" {
					wait()
				}
			},
		}))
		b := w.session("b")
		mine := start(w, NewMutex(s, "mine").Lock) // its caller never hears of the grant
		given := w.lock(NewMutex(s, "given"))
		released := start(w, func(ctx context.Context) (any, error) { return nil, given.Unlock(ctx) })
		w.unlock(w.lock(NewMutex(b, "given")).Unlock)
		w.pass(5 * ttl)
		require.Equal(w, StateConnected, s.State(), "the lease is renewed")
		lost := w.lock(NewMutex(s, "lost"))
		deadline := lost.Deadline()
		w.Client("a").Cut()
		theirs := w.lock(NewMutex(b, "lost"))
		require.ErrorIs(w, lost.Err(), ErrExpired)
		require.True(w, time.Now().After(deadline))
		w.unlock(w.lock(NewMutex(b, "mine")).Unlock)
		w.unlock(theirs.Unlock)
		w.Client("a").Heal()
		close(hang)
		require.ErrorIs(w, mine.get().Err(), ErrExpired)
		released.get()
	})
}

// A hook that panics in the goroutine of a call passes the panic on, and leaves nothing held.
func TestHooksThatPanicLeaveNothingHeld(t *testing.T) {
	simulate(t, func(w *world) {
		when := ""
		panics := func(hook string) {
			if hook == when {
				panic(hook)
			}
		}
		s := w.session("a", WithTrace(&Trace{
			AcquireStart: func(ctx context.Context, _ AcquireStartInfo) context.Context { panics("start"); return ctx },
			Queued:       func(context.Context, QueuedInfo) { panics("queued") },
			AcquireEnd:   func(context.Context, AcquireEndInfo) { panics("end") },
			HoldEnd:      func(context.Context, HoldEndInfo) { panics("hold") },
			ReleaseEnd:   func(context.Context, ReleaseEndInfo) { panics("release") },
		}))
		b := w.session("b")
		for _, when = range []string{"start", "queued", "end", "hold", "release"} {
			theirs := w.lock(NewMutex(b, "m"))
			p := start(w, func(ctx context.Context) (any, error) {
				require.PanicsWithValue(w, when, func() {
					l, err := NewMutex(s, "m").Lock(ctx)
					require.NoError(w, err)
					_ = l.Unlock(ctx)
				})
				return nil, nil
			})
			w.pass(time.Second)
			w.unlock(theirs.Unlock)
			p.get()
			w.unlock(w.lock(NewMutex(b, "m")).Unlock)
			w.pass(time.Second)
			w.empty("m")
		}
	})
}

func TestLogTraceWritesOneLineForEachGrantAndEnd(t *testing.T) {
	simulateEven(t, func(w *world) {
		var out bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		s := w.session("a", WithTrace(LogTrace(logger)))
		l := w.lock(NewMutex(s, "orders/42"))
		_, err := NewMutex(s, "orders/42").TryLock(w.ctx)
		require.Error(w, err)
		w.pass(time.Second)
		w.unlock(l.Unlock)
		set := w.lockAll(s, "x", "y")
		w.DeleteKey(set.Keys()[0])
		w.pass(time.Second)
		require.Error(w, set.Unlock(w.ctx))
		lines := regexp.MustCompile(`lease=[0-9a-f]+`).ReplaceAllString(out.String(), "lease=*")
		lines = regexp.MustCompile(`held=\d+ms`).ReplaceAllString(lines, "held=*")
		require.Equal(w, `level=INFO msg="lock granted" name=orders/42 kind=mutex token=2 create_revision=2 lease=* waited=2ms path=free
level=INFO msg="lock ended" name=orders/42 kind=mutex token=2 create_revision=2 lease=* held=1s cause=released
level=INFO msg="lock granted" names="[x y]" kind=set token=4 create_revision=4 lease=* waited=2ms path=free
level=WARN msg="lock ended" names="[x y]" kind=set token=4 create_revision=4 lease=* held=* cause=evicted error="lost: another client deleted its key"
`, lines)
	})
}

func TestErrorTypesAreFew(t *testing.T) {
	require.Empty(t, ErrorType(nil))
	require.Equal(t, "_OTHER", ErrorType(errors.New("anything")))
	require.Equal(t, "invalid_argument", ErrorType(ErrInvalidName))
	require.Equal(t, "deadline_exceeded", ErrorType(errors.Join(context.DeadlineExceeded, ErrLocked)), "a wait that passed its deadline")
	words := map[string]bool{"_OTHER": true}
	for _, e := range errorTypes {
		require.Equal(t, e.word, ErrorType(opError("lock", "m", e.err)))
		words[e.word] = true
	}
	for _, word := range grpcTypes {
		words[word] = true
	}
	require.Less(t, len(words), 40)
}

func TestStats(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		mu := NewMutex(s, "m", WithTimeSlice(time.Hour))
		l := w.lock(mu)
		waits := w.lockers(2, mu)
		kept := NewMutex(s, "kept", WithRetention(time.Minute))
		w.unlock(w.lock(kept).Unlock)
		w.unlock(w.lock(kept).Unlock)
		_, err := mu.TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		_, err = mu.Lock(w.timeout(time.Second))
		require.ErrorIs(w, err, ErrLocked)
		_, err = NewMutex(s, "").Lock(w.ctx)
		require.ErrorIs(w, err, ErrInvalidName)
		read := w.read(NewRWMutex(s, "rw"))
		w.pass(time.Second)
		got := s.Stats()
		require.InDelta(w, 2*time.Second, got.OldestHold, float64(100*time.Millisecond))
		require.Positive(w, got.LeaseRemaining)
		got.OldestHold, got.LeaseRemaining = 0, 0
		require.Equal(w, Stats{
			State: StateConnected, Holds: 2, Kept: 1, Waiting: 2, Free: 3, Retained: 1, Locked: 1, GaveUp: 1, Failed: 1, Released: 2, Leases: 1,
		}, got)
		w.unlock(l.Unlock)
		w.unlock(waits[0].get().Unlock)
		w.unlock(waits[1].get().Unlock)
		w.unlock(read.Unlock)
		got = s.Stats()
		require.Equal(w, [3]int64{2, 6, 0}, [3]int64{got.Local, got.Released, int64(got.Holds)})

		w.lock(mu)
		gone := w.lock(NewMutex(s, "gone"))
		w.DeleteKey(gone.Key())
		w.pass(time.Second)
		require.Equal(w, int64(1), s.Stats().Lost)
		w.loseLease("a", s)
		got = s.Stats()
		require.Equal(w, [4]int64{2, 2, 0, 0}, [4]int64{got.Lost, got.Leases, int64(got.Holds), int64(got.Waiting)})
	})
}
