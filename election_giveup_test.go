package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestACampaignCancelledAtAnyInstantOfTheGrantLeavesNothing(t *testing.T) {
	for _, free := range []bool{true, false} {
		t.Run(map[bool]string{true: "a free election", false: "a handover"}[free], func(t *testing.T) {
			simulate(t, func(w *world) {
				a, b := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e")
				led, gaveUp := 0, 0
				for after := 100 * time.Microsecond; after < 6*time.Millisecond; after += 100 * time.Microsecond {
					ctx, cancel := context.WithCancel(w.ctx)
					resigned := make(chan error, 1)
					if free {
						resigned <- nil
						time.AfterFunc(after, cancel)
					} else {
						leader := w.campaign(a, "A")
						time.AfterFunc(300*time.Millisecond, func() {
							time.AfterFunc(after, cancel)
							resigned <- leader.Resign(w.ctx)
						})
					}
					term, err := b.Campaign(ctx, "B")
					if err == nil {
						led++
						<-ctx.Done() // the term does not end with the campaign's context
						require.NoError(w, term.Err())
						require.NoError(w, term.Resign(w.ctx))
					} else {
						gaveUp++
						require.ErrorIs(w, err, context.Canceled)
					}
					require.NoError(w, <-resigned)
					w.pass(20 * time.Millisecond)
					w.empty("e")
				}
				require.Positive(w, led)
				require.Positive(w, gaveUp)
			})
		})
	}
}

func TestACampaignGivenUpWhileEtcdIsAwayReturnsAtOnceAndIsTakenBack(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e")
		leader := w.campaign(a, "A")
		wait := w.candidate(b, "B")
		w.Client("b").Cut()
		gaveUp := time.Now()
		wait.cancel()
		_, err := wait.result()
		require.ErrorIs(w, err, context.Canceled)
		require.Equal(w, gaveUp, wait.at)
		w.pass(2 * time.Second)
		w.Client("b").Heal()
		w.pass(2 * time.Second)
		require.Equal(w, []string{"A"}, w.values("e"))
		require.NoError(w, leader.Err())
	})
}

// trap B2
func TestACampaignWhoseAnswerWasLostLeadsAllTheSame(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		w.once("a", simetcd.Txn, simetcd.Action{DropReply: true})
		term := w.campaign(NewElection(s, "e"), "A")
		require.Equal(w, []string{"A"}, w.values("e"))
		require.NoError(w, term.Resign(w.ctx))
		w.empty("e")
	})
}

// trap B2
func TestACampaignGivenUpWithoutAnAnswerLeavesNoKey(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"applied, the answer lost":           {DropReply: true},
		"applied, answered with an error":    {ErrAfter: rpctypes.ErrGRPCTimeout},
		"applied long after it was given up": {DelayRequest: 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				lease := s.Lease()
				w.once("a", simetcd.Txn, act)
				wait := w.candidate(NewElection(s, "e"), "A")
				wait.cancel()
				_, err := wait.result()
				require.ErrorIs(w, err, context.Canceled)
				w.pass(15 * time.Second)
				w.empty("e")
				require.Equal(w, lease, s.Lease(), "it must not take the end of the lease")
				w.campaign(NewElection(w.session("b"), "e"), "B")
			})
		})
	}
}

// trap B1: a candidate that lost its key while it waited does not lead, however late it learns of the loss.
func TestACandidateWhoseKeyIsGoneDoesNotWinTheCampaign(t *testing.T) {
	remove := func(w *world, s *Session) { w.DeleteKey("e/" + wire.Hex(s.Lease())) }
	for name, c := range map[string]struct {
		waited time.Duration // before and after 250 ms, when the watch on the own key begins
		evict  func(w *world, s *Session)
		reason error
	}{
		"deleted":                  {time.Second, remove, ErrEvicted},
		"deleted at once":          {50 * time.Millisecond, remove, ErrEvicted},
		"revoked":                  {time.Second, func(w *world, s *Session) { w.RevokeLease(s.Lease()) }, ErrRevoked},
		"revoked at once":          {50 * time.Millisecond, func(w *world, s *Session) { w.RevokeLease(s.Lease()) }, ErrRevoked},
		"deleted while he was cut": {time.Second, func(w *world, s *Session) { w.Client("b").CutReplies(); remove(w, s) }, ErrEvicted},
		"expired while he was cut": {time.Second, func(w *world, _ *Session) { w.Client("b").Cut(); w.pass(ttl + time.Second) }, ErrExpired},
	} {
		for _, resigns := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, the leader resigns: %t", name, resigns), func(t *testing.T) {
				simulate(t, func(w *world) {
					b := w.session("b")
					leader := w.campaign(NewElection(w.session("a"), "e"), "A")
					wait := w.candidate(NewElection(b, "e"), "B")
					w.pass(c.waited)
					c.evict(w, b)
					if resigns {
						require.NoError(w, leader.Resign(w.ctx))
						w.empty("e")
					}
					w.pass(time.Second)
					w.Client("b").Heal()
					_, err := wait.result()
					require.ErrorIs(w, err, ErrLost)
					require.ErrorIs(w, err, c.reason)
					require.Equal(w, resigns, leader.Err() != nil)
				})
			})
		}
	}
}

// trap A21: an etcd that does not tell of the deletion of our own key. The watch that
// has not heard of it is the proof of the grant too; so that is found out afterwards, as
// it is for a key that is deleted in the middle of a term. The fence stands all the while.
func TestATermWhoseKeyIsGoneUntoldEndsWithTheNextLook(t *testing.T) {
	for _, resigns := range []bool{true, false} {
		simulate(t, func(w *world) {
			b := w.session("b")
			leader := w.campaign(NewElection(w.session("a"), "e"), "A")
			wait := w.candidate(NewElection(b, "e"), "B")
			w.pass(time.Second)
			w.MissDelete("e/" + wire.Hex(b.Lease()))
			w.DeleteKey("e/" + wire.Hex(b.Lease()))
			if !resigns {
				_, err := wait.result()
				require.ErrorIs(w, err, ErrEvicted, "a wait looks every ten seconds")
				return
			}
			require.NoError(w, leader.Resign(w.ctx))
			term := wait.get()
			guarded, err := w.Client("b").Txn(w.ctx).If(term.Guard()).Then(clientv3.OpPut("x", "")).Commit()
			require.NoError(w, err)
			require.False(w, guarded.Succeeded)
			w.pass(61 * time.Second)
			require.ErrorIs(w, term.Err(), ErrEvicted)
		})
	}
}
