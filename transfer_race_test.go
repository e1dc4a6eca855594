package etcdlock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// handover is a leader, the candidate that is next in line, and the one that the leader hands over to.
type handover struct {
	*world
	session      *Session // of the leader
	term         *Term
	next, target *pending[*Term]
}

func (w *world) handover() *handover {
	s := &handover{world: w, session: w.session("a")}
	s.term = w.campaign(NewElection(s.session, "e"), "a")
	s.next = w.stands(NewElection(w.session("next"), "e"), "next")
	s.target = w.stands(NewElection(w.session("target"), "e"), "target")
	return s
}

// transfer hands over to the target, in a goroutine of its own.
func (s *handover) transfer() *pending[int] {
	return start(s.world, func(ctx context.Context) (int, error) { return 0, s.term.Transfer(ctx, "target") })
}

// leads asserts that one of the two leads, and the other one after it, in the end.
func (s *handover) leads(first, second *pending[*Term]) {
	s.Helper()
	term := first.get()
	s.pass(time.Second)
	second.isWaiting()
	require.Greater(s, term.Token(), s.term.Token())
	require.NoError(s, term.Resign(s.ctx))
	require.NoError(s, second.get().Resign(s.ctx))
	s.pass(time.Minute)
	s.empty("e")
	s.allGone()
}

// slow delays the requests of a kind from the leader, or the answers.
func (s *handover) slow(kind simetcd.Kind, request, reply time.Duration) {
	s.every("a", simetcd.Action{DelayRequest: request, DelayReply: reply}, kind)
}

// report L8: a Transfer does nothing while a lock of the name is held within the term, neither then nor later.
func TestATransferUnderANestedHoldIsRefused(t *testing.T) {
	for name, again := range map[string]bool{"and then asked for again": true, "and then the leader resigns": false} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.handover()
				within, err := NewMutex(s.session, "e", WithReentry(5)).Lock(s.term.Context())
				require.NoError(w, err)
				err = s.term.Transfer(w.ctx, "target")
				require.ErrorIs(w, err, ErrLocked)
				require.ErrorContains(w, err, "unlock it first")
				require.NoError(w, s.term.Err())
				require.NoError(w, within.Err())
				w.pass(time.Minute)
				require.NoError(w, s.term.Err())
				require.NoError(w, within.Unlock(w.ctx))
				if again {
					require.NoError(w, s.term.Transfer(w.ctx, "target"))
					s.leads(s.target, s.next)
				} else {
					require.NoError(w, s.term.Resign(w.ctx))
					s.leads(s.next, s.target)
				}
			})
		})
	}
}

// report L8: the call that comes first decides the next leader.
func TestOfATransferAndAResignTheFirstOneDecides(t *testing.T) {
	t.Run("the Resign, while the Transfer looks for the candidate", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			s.slow(simetcd.Range, 0, time.Second)
			p := s.transfer()
			w.pass(100 * time.Millisecond)
			require.NoError(w, s.term.Resign(w.ctx))
			p.fails(ErrReleased)
			s.leads(s.next, s.target)
		})
	})
	t.Run("the Resign, whose request is under way", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			s.slow(simetcd.Txn, time.Second, 0)
			resigns := start(w, func(ctx context.Context) (int, error) { return 0, s.term.Resign(ctx) })
			synctest.Wait()
			require.ErrorIs(w, s.term.Transfer(w.ctx, "target"), ErrReleased)
			resigns.get()
			s.leads(s.next, s.target)
		})
	})
	t.Run("the Transfer, whose request is under way", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			s.slow(simetcd.Txn, time.Second, 0)
			p := s.transfer()
			w.pass(100 * time.Millisecond)
			require.ErrorIs(w, s.term.Resign(w.ctx), ErrReleased)
			p.get()
			s.leads(s.target, s.next)
		})
	})
	for how, trouble := range map[string]simetcd.Action{
		"fails": {Err: unavailable}, "hangs": {DropRequest: true}, "has its answer lost": {DropReply: true},
	} {
		t.Run("the Transfer, whose request "+how, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.handover()
				s.every("a", trouble, simetcd.Txn)
				p := s.transfer()
				w.pass(100 * time.Millisecond)
				require.ErrorIs(w, s.term.Resign(w.ctx), ErrReleased)
				w.pass(2 * time.Second)
				w.Intercept(nil)
				p.get()
				s.leads(s.target, s.next)
			})
		})
	}
	t.Run("another Transfer", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			s.slow(simetcd.Range, 0, time.Second)
			p := s.transfer()
			w.pass(100 * time.Millisecond)
			w.Intercept(nil)
			require.NoError(w, s.term.Transfer(w.ctx, "next"))
			p.fails(ErrReleased)
			s.leads(s.next, s.target)
		})
	})
}

// report L8: a candidate of the leader's own session that waits in memory with the same value does not get the term in
// the target's place, nor does the Transfer happen when that one's term ends.
func TestATransferIsNotHandedOnInMemory(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.handover()
		own := w.stands(NewElection(s.session, "e"), "a")
		require.NoError(w, s.term.Transfer(w.ctx, "target"))
		led := s.target.get()
		own.isWaiting()
		require.NoError(w, led.Resign(w.ctx))
		first, second := s.next, own // which of the two lined up first at that time does not matter
		select {
		case <-first.done:
		case <-second.done:
			first, second = second, first
		}
		require.NoError(w, first.get().Resign(w.ctx))
		require.NoError(w, second.get().Resign(w.ctx))
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// report L8: a term that is lost, or left to a successor, is not handed over later.
func TestATransferOfATermThatEndsMeanwhileDoesNotHappen(t *testing.T) {
	t.Run("evicted", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			w.pass(time.Second)
			s.slow(simetcd.Range, 0, time.Second)
			p := s.transfer()
			w.pass(100 * time.Millisecond)
			w.DeleteKey(s.term.Key())
			p.fails(ErrLost, ErrEvicted)
			w.Intercept(nil)
			s.leads(s.next, s.target)
		})
	})
	t.Run("cut off", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			w.Client("a").Cut()
			p := s.transfer()
			p.fails(ErrLost, ErrExpired)
			w.Client("a").Heal()
			s.leads(s.next, s.target)
		})
	})
	t.Run("orphaned", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			s.slow(simetcd.Range, 0, time.Second)
			p := s.transfer()
			w.pass(100 * time.Millisecond)
			heir := w.session("b", WithLease(w.orphan(s.session)))
			p.fails(ErrOrphaned)
			w.Intercept(nil)
			term := w.campaign(NewElection(heir, "e"), "a")
			s.next.isWaiting()
			require.NoError(w, term.Resign(w.ctx))
			s.leads(s.next, s.target)
		})
	})
	t.Run("orphaned while the request is under way", func(t *testing.T) {
		simulate(t, func(w *world) {
			s := w.handover()
			s.slow(simetcd.Txn, time.Second, 0)
			p := s.transfer()
			w.pass(100 * time.Millisecond)
			w.orphan(s.session)
			p.get()
			w.Intercept(nil)
			s.leads(s.target, s.next)
		})
	})
}

// report L8: whatever comes at the same time, a Transfer that says so has happened, and one that was refused has not.
func TestATransferAmongOthersDoesWhatItSays(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(100) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			r := rand.New(rand.NewPCG(seed, 7))
			s := w.handover()
			w.Intercept(func(c simetcd.Call) simetcd.Action {
				if c.Client != "a" || c.Kind != simetcd.Txn && c.Kind != simetcd.Range {
					return simetcd.Action{}
				}
				r := rand.New(rand.NewPCG(seed, uint64(c.N)<<8|uint64(c.Kind)))
				return simetcd.Action{
					DelayRequest: time.Duration(r.IntN(20)) * time.Millisecond, DelayReply: time.Duration(r.IntN(20)) * time.Millisecond,
					DropReply: r.IntN(20) == 0,
				}
			})
			within := func() time.Duration { return time.Duration(r.IntN(60)) * time.Millisecond }
			others := r.IntN(5)
			p := s.transfer()
			done := make(chan struct{})
			go func() {
				defer close(done)
				time.Sleep(within())
				switch others {
				case 0:
					_ = s.term.Resign(w.ctx)
				case 1:
					if l, err := NewMutex(s.session, "e", WithReentry(5)).Lock(s.term.Context()); err == nil {
						time.Sleep(within())
						_ = l.Unlock(w.ctx)
					}
				case 2:
					w.DeleteKey(s.term.Key())
				case 3:
					_, _ = s.session.Orphan(w.ctx)
				}
			}()
			_, err := p.result()
			<-done
			if s.term.Err() == nil {
				require.ErrorIs(w, err, ErrLocked, "seed %d", seed)
				require.NoError(w, s.term.Resign(w.ctx))
			}
			outcomes[fmt.Sprint(others, err != nil)]++
			w.Intercept(nil)
			if others == 3 && err != nil {
				return // the lease is left to no process
			}
			if err == nil {
				s.leads(s.target, s.next)
			} else {
				s.leads(s.next, s.target)
			}
		})
	}
	t.Log(outcomes)
}
