package etcdlock

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/sweeper"
)

// acquisition is what a process has, or asks for, under the name "m". It returns when it has that.
type acquisition func(w *world, s *Session) *acquired

type acquired struct {
	token    int64
	release  func(ctx context.Context) error
	sessions []*Session // that it has beside that of the process
	run      *running
}

// acquisitions are all kinds of them.
var acquisitions = map[string]acquisition{
	"Lock": func(w *world, s *Session) *acquired {
		l := w.lock(NewMutex(s, "m"))
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"TryLock": func(w *world, s *Session) *acquired {
		l, err := NewMutex(s, "m").TryLock(w.ctx)
		require.NoError(w, err)
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"Lock with deadlock detection": func(w *world, s *Session) *acquired {
		outer := w.lock(NewMutex(s, "outer"))
		l, err := NewMutex(s, "m", WithDeadlockDetection("")).Lock(outer.Context())
		require.NoError(w, err)
		return &acquired{token: l.Token(), release: func(ctx context.Context) error {
			require.NoError(w, outer.Unlock(ctx))
			return l.Unlock(ctx)
		}}
	},
	"RLock": func(w *world, s *Session) *acquired {
		l := w.read(NewRWMutex(s, "m"))
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"TryRLock": func(w *world, s *Session) *acquired {
		l, err := NewRWMutex(s, "m").TryRLock(w.ctx)
		require.NoError(w, err)
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"Upgrade": func(w *world, s *Session) *acquired {
		l, err := w.read(NewRWMutex(s, "m")).Upgrade(w.timeout(time.Minute))
		require.NoError(w, err)
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"Downgrade": func(w *world, s *Session) *acquired {
		l, err := w.write(NewRWMutex(s, "m")).Downgrade(w.timeout(time.Minute))
		require.NoError(w, err)
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"1 of 3 permits": permits(1), "2 of 3 permits": permits(2), "1 and 2 of 3 permits": permits(1, 2), "2 and 1 of 3 permits": permits(2, 1),
	"a try of 2 of 3 permits": func(w *world, s *Session) *acquired {
		p, err := NewSemaphore(s, "m", 3).TryAcquire(w.ctx, 2)
		require.NoError(w, err)
		return &acquired{token: p.Token(), release: p.Release}
	},
	"LockAll": func(w *world, s *Session) *acquired {
		l := w.lockAll(s, "m", "n")
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"LockAll in another order": func(w *world, s *Session) *acquired {
		l := w.lockAll(s, "n", "m")
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"TryLockAll of more": func(w *world, s *Session) *acquired {
		l, err := NewMultiMutex(s, []string{"m", "n", "o"}).TryLock(w.ctx)
		require.NoError(w, err)
		return &acquired{token: l.Token(), release: l.Unlock}
	},
	"Campaign":                  campaign(),
	"Campaign with a priority":  campaign(WithPriority(5)),
	"Campaign with a lower one": campaign(WithPriority(-5)),
	"Campaign with a takeover":  campaign(WithTakeover(0)),
	"Campaign with both":        campaign(WithTakeover(time.Second), WithPriority(5)),
	"a leadership after a step behind": func(w *world, s *Session) *acquired {
		first := w.campaign(NewElection(w.session("first"), "m"), "first")
		e := NewElection(s, "m", WithPriority(1), WithTakeover(time.Hour))
		own := w.candidate(e, "own")
		second := w.candidate(NewElection(w.session("second"), "m", WithPriority(2)), "second")
		require.NoError(w, first.Resign(w.ctx))
		require.NoError(w, second.get().Resign(w.ctx))
		return &acquired{token: own.get().Token(), release: own.value.Resign}
	},
	"a leadership by a transfer": func(w *world, s *Session) *acquired {
		first := w.campaign(NewElection(w.session("first"), "m"), "first")
		other := w.candidate(NewElection(w.session("second"), "m"), "second")
		own := w.candidate(NewElection(s, "m"), "own")
		require.NoError(w, first.Transfer(w.ctx, "own"))
		term := own.get()
		other.cancel()
		_, _ = other.result()
		return &acquired{token: term.Token(), release: term.Resign}
	},
	"Run": runs(), "Run on a lease of its own": runs(WithStopTimeout(time.Minute)),
}

func permits(all ...int) acquisition {
	return func(w *world, s *Session) *acquired {
		m, has := NewSemaphore(s, "m", 3), &acquired{}
		var some []*Permit
		for _, n := range all {
			p := w.acquire(m, n)
			some, has.token = append(some, p), p.Token()
		}
		has.release = func(ctx context.Context) error {
			for _, p := range some {
				if err := p.Release(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		return has
	}
}

func campaign(opts ...ElectionOption) acquisition {
	return func(w *world, s *Session) *acquired {
		term := w.campaign(NewElection(s, "m", opts...), "own")
		return &acquired{token: term.Token(), release: term.Resign}
	}
}

func runs(opts ...RunOption) acquisition {
	return func(w *world, s *Session) *acquired {
		run := w.run(NewElection(s, "m"), nil, opts...)
		term := run.term()
		return &acquired{token: term.Token(), sessions: []*Session{own(term)}, run: run, release: func(context.Context) error {
			run.end()
			return nil
		}}
	}
}

// onlyAsFirst are kinds that need other sessions, of which they leave nothing.
var onlyAsFirst = map[string]bool{"a leadership after a step behind": true, "a leadership by a transfer": true}

// tries are kinds that do not wait.
var tries = map[string]bool{"TryLock": true, "TryRLock": true, "a try of 2 of 3 permits": true, "TryLockAll of more": true}

// several are kinds that take one thing after the other.
var several = map[string]bool{"1 and 2 of 3 permits": true, "2 and 1 of 3 permits": true}

// Whatever the former process had on a lease file, and whatever this one asks for: it does not
// wait for a key of its own lease, and nothing is left.
// report R1
func TestAProcessGetsWhatItAsksForWhateverTheFormerOneHad(t *testing.T) {
	dir, n := t.TempDir(), 0
	names := slices.Sorted(maps.Keys(acquisitions))
	for i, had := range names {
		t.Run(had, func(t *testing.T) {
			for j, asked := range names {
				if onlyAsFirst[asked] {
					continue
				}
				for _, killed := range []bool{false, true} {
					rival := killed != ((i+j)%2 == 0) // of the four cases two for each pair
					if rival && (tries[asked] || several[asked] && !several[had]) {
						rival = false // they may find that one; or it waits for one half of them and is in the way of the other
					}
					n++
					simulate(t, func(w *world) {
						defer func() {
							if w.Failed() {
								w.Logf("asked for: %s, killed: %v, beside a rival: %v", asked, killed, rival)
							}
						}()
						w.restart(filepath.Join(dir, strconv.Itoa(n)), acquisitions[had], acquisitions[asked], killed, rival)
					})
				}
			}
		})
	}
}

func (w *world) restart(path string, first, second acquisition, killed, rival bool) {
	file := WithLeaseFile(path)
	a := w.session("a", file)
	before := first(w, a)
	var holds bool
	var theirs *pending[any]
	if rival {
		m := NewMutex(w.session("b"), "m")
		theirs = start(w, func(ctx context.Context) (any, error) {
			return nil, m.Do(ctx, func(_ context.Context, l *Lock) error {
				holds = true
				require.Greater(w, l.Token(), before.token)
				time.Sleep(100 * time.Millisecond)
				holds = false
				return nil
			})
		})
		w.pass(time.Second)
		theirs.isWaiting()
	}
	if killed {
		w.killed("a", append(before.sessions, a)...)
	} else {
		w.orphan(a)
	}
	if before.run != nil {
		before.run.cancel()
		_, _ = before.run.result()
	}

	again := w.session("a2", file)
	began := time.Now()
	has := second(w, again)
	require.Less(w, time.Since(began), 2*time.Second)
	require.False(w, holds)
	require.Greater(w, has.token, before.token)
	w.pass(2 * ttl)
	require.NoError(w, again.Err())
	names, err := again.Adopted(w.ctx)
	require.NoError(w, err)
	require.Empty(w, names)
	w.unlock(has.release)
	if rival {
		theirs.get()
	}
	w.pass(time.Second)
	require.Empty(w, w.Keys(""))
}

// A place in line survives a kill too, and is given up if it does not fit.
// report R1
func TestAPlaceInLineIsTakenOverIfItFits(t *testing.T) {
	for name, tc := range map[string]struct {
		had, asks ElectionOption
		kept      bool
	}{
		"the same":      {WithPriority(1), WithPriority(1), true},
		"another one":   {WithPriority(1), WithPriority(2), false},
		"with takeover": {WithPriority(1), WithTakeover(time.Hour), false},
		"none any more": {WithPriority(1), WithPriority(0), false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
				leader := w.campaign(NewElection(w.session("b"), "e"), "B")
				a := w.session("a", file)
				w.candidate(NewElection(a, "e", tc.had), "A")
				before := w.Keys("e/")[1]
				w.pass(time.Second)
				w.killed("a", a)
				again := w.session("a2", file)
				p := w.candidate(NewElection(again, "e", tc.asks), "A")
				w.pass(time.Second)
				p.isWaiting()
				require.Len(w, w.Keys("e/"), 2, "the old one does not stand beside it")
				require.Equal(w, tc.kept, w.Keys("e/")[1].CreateRevision == before.CreateRevision)
				require.NoError(w, leader.Resign(w.ctx))
				term := p.get()
				w.pass(3 * ttl)
				require.NoError(w, term.Err())
				require.NoError(w, term.Resign(w.ctx))
				w.empty("e")
			})
		})
	}
}

// report R2
func TestASessionNeverGivesUpAKeyThatItUses(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		w.lock(NewMutex(a, "other"))
		w.killed("a", a)

		again := w.session("a2", file)
		has := acquisitions["a leadership after a step behind"](w, again)
		term := w.Keys("m/")
		require.Len(w, term, 1)
		require.Contains(w, string(term[0].Key), ".1p1t")
		w.pass(time.Minute)
		require.Equal(w, term, w.Keys("m/"))
		w.empty("other")
		w.unlock(has.release)
	})
}

// A key that is given up in the instant in which it is asked for is not waited for.
// report R1
func TestAKeyThatIsBeingGivenUpIsNotWaitedFor(t *testing.T) {
	for name, ask := range acquisitions {
		if onlyAsFirst[name] || tries[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for early := -2 * time.Millisecond; early <= 8*time.Millisecond; early += time.Millisecond {
				simulate(t, func(w *world) {
					file := WithLeaseFile(filepath.Join(w.TempDir(), "lease"))
					a := w.session("a", file)
					l := w.lock(NewMutex(a, "m"))
					w.killed("a", a)
					began := time.Now()
					again := w.session("a2", file)
					w.pass(time.Until(began.Add(ttl + early)))
					asked := time.Now()
					has := ask(w, again)
					require.Less(w, time.Since(asked), time.Second)
					require.Greater(w, has.token, l.Token())
					w.pass(3 * ttl)
					require.NoError(w, again.Err())
					w.unlock(has.release)
					w.pass(time.Second)
					require.Empty(w, w.Keys(""))
				})
			}
		})
	}
}

// When it is known what the former process had, a free lock takes one request again.
func TestAProcessThatTookALeaseOverIsAsFastAsAnyOther(t *testing.T) {
	for _, byFile := range []bool{true, false} {
		simulate(t, func(w *world) {
			file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
			a := w.session("a", file)
			w.lock(NewMutex(a, "m"))
			again := WithLease(w.orphan(a))
			if byFile {
				again = file
			}
			s := w.session("a2", again)
			w.pass(sweeper.LateEffect + time.Second)
			require.Equal(w, "1 Txn", requests(w.Client("a2"), func() { w.lock(NewMutex(s, "n")) }))
			l := w.lock(NewMutex(s, "m"))
			require.NoError(w, l.Unlock(w.ctx))
		})
	}
}

// A late request of the former process blocks no other session either.
// report R1
func TestALateRequestOfTheFormerProcessIsNotWaitedFor(t *testing.T) {
	for name, ask := range acquisitions {
		if onlyAsFirst[name] || tries[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				file := WithLeaseFile(filepath.Join(w.TempDir(), "lease"))
				a := w.session("a", file)
				w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 500 * time.Millisecond})
				lost := start(w, NewRWMutex(a, "m").RLock)
				w.pass(100 * time.Millisecond)
				a.engine.LeaseFile().Close()
				again := w.session("a2", file)
				w.pass(450 * time.Millisecond)
				require.Len(w, w.Keys("m/"), 1)
				w.Client("a").Cut()
				began := time.Now()
				has := ask(w, again)
				require.Less(w, time.Since(began), time.Second)
				w.pass(3 * ttl)
				w.unlock(has.release)
				w.pass(time.Second)
				w.empty("m")
				lost.cancel()
			})
		})
	}
}

// A deletion that was not answered, and comes late, does not take what was taken over since.
// report R2
func TestALateDeletionSparesAKeyThatWasTakenOverSince(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(acquisitions)) {
		ask := acquisitions[name]
		if onlyAsFirst[name] || tries[name] || name == "Run on a lease of its own" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a")
				before := ask(w, a)
				if before.run != nil {
					before.run.cancel()
				}
				id := a.Lease()
				w.killed("a", a)
				again := w.session("a2", WithLease(id))
				w.next("a2", simetcd.Txn, simetcd.Action{DelayRequest: 3 * time.Second})
				require.ErrorIs(w, again.ReleaseAdopted(w.timeout(500*time.Millisecond)), context.DeadlineExceeded)
				has := ask(w, again)
				keys := w.Keys("m/")
				require.NotEmpty(w, keys)
				w.pass(time.Minute)
				require.Equal(w, keys, w.Keys("m/"))
				w.unlock(has.release)
			})
		})
	}
}

// report R1
func TestALockAllInOtherSlotsIsTakenOverAsAWhole(t *testing.T) {
	simulate(t, func(w *world) {
		file := WithLeaseFile(filepath.Join(t.TempDir(), "lease"))
		a := w.session("a", file)
		first := w.lockAll(a, "n") // in slot 1 of n
		set := w.lockAllLater(a, "m", "n")
		w.pass(time.Second)
		set.isWaiting()
		w.unlock(first.Unlock)
		held := set.get() // in slots 1 and 2
		require.Contains(w, held.Keys()[1], ".2")
		w.killed("a", a)
		again := w.lockAll(w.session("a2", file), "m", "n")
		require.Equal(w, held.Keys(), again.Keys())
		require.Greater(w, again.Token(), held.Token())
		w.pass(time.Minute)
		require.NoError(w, again.Err())
	})
}
