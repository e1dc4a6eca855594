package etcdlock

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// campaign campaigns, and must lead within a minute.
func (w *world) campaign(e *Election, value string) *Term {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	term, err := e.Campaign(ctx, value)
	require.NoError(w, err)
	return term
}

// candidate campaigns in a goroutine of its own, and is in line when it returns.
func (w *world) candidate(e *Election, value string) *pending[*Term] {
	p := start(w, func(ctx context.Context) (*Term, error) { return e.Campaign(ctx, value) })
	w.pass(10 * time.Millisecond)
	return p
}

// values are what the keys under a name hold, in the order of the queue.
func (w *world) values(name string) []string {
	var values []string
	for _, kv := range w.Keys(name + "/") {
		values = append(values, string(kv.Value))
	}
	return values
}

// once applies an action to the first request of a kind that a client sends from now on.
func (w *world) once(client string, kind simetcd.Kind, act simetcd.Action) {
	var spent atomic.Bool
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client != client || c.Kind != kind || !spent.CompareAndSwap(false, true) {
			return simetcd.Action{}
		}
		return act
	})
}

func TestCandidatesOfAnElectionLeadOneAfterTheOther(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e"), NewElection(w.session("c"), "e")
		first := w.campaign(a, "A")
		waitB, waitC := w.candidate(b, "B"), w.candidate(c, "C")
		waitB.isWaiting()
		waitC.isWaiting()
		require.Equal(w, []string{"A", "B", "C"}, w.values("e"))

		require.NoError(w, first.Resign(w.ctx))
		require.ErrorIs(w, context.Cause(first.Context()), ErrReleased)
		second := waitB.get()
		require.Greater(w, second.Token(), first.Token())
		require.Equal(w, "B", second.Value())
		waitC.isWaiting()

		require.NoError(w, second.Resign(w.ctx))
		third := waitC.get()
		require.Greater(w, third.Token(), second.Token())
		require.NoError(w, third.Resign(w.ctx))
		w.empty("e")
	})
}

func TestACampaignForAFreeElectionTakesOneRequestAndAResignationAnother(t *testing.T) {
	simulate(t, func(w *world) {
		client := w.Client("a")
		e := NewElection(w.session("a"), "e")
		client.ResetCounts()
		term := w.campaign(e, "A")
		require.Equal(w, 1, client.Count())
		require.Equal(w, 1, client.Count(simetcd.Txn))
		require.NoError(w, term.Resign(w.ctx))
		require.Equal(w, 2, client.Count())
		require.Equal(w, 2, client.Count(simetcd.Txn))
	})
}

func TestASecondCampaignOfASessionWaitsAndLeadsWithItsOwnValue(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		first := w.campaign(NewElection(s, "e"), "one")
		wait := w.candidate(NewElection(s, "e"), "two")
		w.pass(time.Second)
		wait.isWaiting()
		require.Equal(w, []string{"one"}, w.values("e"))

		require.NoError(w, first.Resign(w.ctx))
		second := wait.get()
		require.Equal(w, []string{"two"}, w.values("e"))
		require.Equal(w, "two", second.Value())
		require.Greater(w, second.Token(), first.Token())
	})
}

func TestThePlaceOfACandidateWhoGivesUpItsCampaignIsInheritedWithAnotherValue(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("s")
		leader := w.campaign(NewElection(w.session("a"), "e"), "A")
		one, two := w.candidate(NewElection(s, "e"), "one"), w.candidate(NewElection(s, "e"), "two")
		other := w.candidate(NewElection(w.session("b"), "e"), "B")
		place := w.Keys("e/")[1]

		one.cancel()
		_, err := one.result()
		require.ErrorIs(w, err, context.Canceled)
		w.pass(time.Second)
		two.isWaiting()
		require.NoError(w, leader.Resign(w.ctx))
		term := two.get()
		require.Equal(w, []string{"two", "B"}, w.values("e"))
		key := w.Get(term.Key())
		require.Equal(w, place.CreateRevision, key.CreateRevision, "the place")
		require.Equal(w, int64(s.Lease()), key.Lease)
		other.isWaiting()
	})
}

func TestACampaignCancelledBeforeItBeginsAsksForNothing(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		w.Client("a").ResetCounts()
		why := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(w.ctx)
		cancel(why)
		_, err := e.Campaign(ctx, "A")
		require.ErrorIs(w, err, context.Canceled)
		require.ErrorIs(w, err, why)
		w.pass(time.Second)
		require.Zero(w, w.Client("a").Count())
	})
}

func TestACandidateIsToldThatItsSessionOrClientWasClosed(t *testing.T) {
	for name, c := range map[string]struct {
		close func(w *world, s *Session)
		is    []error
	}{
		"session": {func(w *world, s *Session) { require.NoError(w, s.Close(w.ctx)) }, []error{ErrSessionClosed}},
		"client":  {func(w *world, _ *Session) { _ = w.Client("b").Close() }, []error{ErrSessionClosed, ErrLost, ErrClientClosed}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				w.campaign(NewElection(w.session("a"), "e"), "A")
				b := w.session("b")
				wait := w.candidate(NewElection(b, "e"), "B")
				leading := w.campaign(NewElection(b, "other"), "B")
				c.close(w, b)
				_, err := wait.result()
				_, after := NewElection(b, "e").Campaign(w.ctx, "B")
				for _, is := range c.is {
					require.ErrorIs(w, err, is)
					require.ErrorIs(w, after, is)
					require.ErrorIs(w, leading.Err(), is)
				}
			})
		})
	}
}

func TestACampaignGoesOnUnderTheNewLeaseOfItsSession(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		e := NewElection(s, "e")
		old := w.campaign(e, "A")
		w.RevokeLease(s.Lease())
		<-old.Done()
		term := w.campaign(e, "A")
		require.NotEqual(w, old.Key(), term.Key())
		require.Greater(w, term.Token(), old.Token())
		require.ErrorIs(w, old.Err(), ErrRevoked, "what was lost is not moved")
	})
}

func TestAnElectionAndAMutexOfOneNameExcludeEachOther(t *testing.T) {
	simulate(t, func(w *world) {
		lock := w.lock(NewMutex(w.session("a"), "e"))
		wait := w.candidate(NewElection(w.session("b"), "e"), "B")
		w.pass(time.Second)
		wait.isWaiting()
		require.NoError(w, lock.Unlock(w.ctx))
		require.Greater(w, wait.get().Token(), lock.Token())
	})
}

// trap B11: all that counts lies between "e/" and "e0", and all of that counts.
func TestACampaignHasItsOwnNamesKeysAndNoOthers(t *testing.T) {
	simulate(t, func(w *world) {
		for _, key := range []string{"e", "e-x/1", "e.x", "e0", "e2/1", "ee/1"} {
			w.PutKey(key, "of another client", clientv3.NoLease)
		}
		s := w.session("a")
		term := w.campaign(NewElection(s, "e"), "A")
		require.Equal(w, "e/"+wire.Hex(s.Lease()), term.Key())
		require.NoError(w, term.Resign(w.ctx))

		w.PutKey("e/by hand", "stray", clientv3.NoLease)
		wait := w.candidate(NewElection(s, "e"), "A")
		w.pass(time.Minute)
		wait.isWaiting()
		w.DeleteKey("e/by hand")
		wait.get()
	})
}

// trap B11
func TestACandidateThatTakesALeaseOverLeadsOnWithItsOwnKey(t *testing.T) {
	simulate(t, func(w *world) {
		w.PutKey("e2/1", "of a neighbour, and older", clientv3.NoLease)
		s := w.session("a")
		before := w.campaign(NewElection(s, "e"), "before")
		wait := w.candidate(NewElection(w.session("b"), "e"), "B")
		id := w.orphan(s)
		require.ErrorIs(w, before.Err(), ErrOrphaned)

		after := w.campaign(NewElection(w.session("a2", WithLease(id)), "e"), "after")
		require.Equal(w, before.Key(), after.Key())
		require.Equal(w, []string{"after", "B"}, w.values("e"))
		require.Greater(w, after.Token(), before.Token())
		wait.isWaiting()
	})
}

func TestACampaignUnderANameThatCannotBeUsedFailsAtOnce(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		for name, is := range map[string]error{
			"": ErrInvalidName, "/": ErrInvalidName, "e/": ErrInvalidName, "a//b": ErrInvalidName, "a\x00b": ErrInvalidName,
		} {
			_, err := NewElection(s, name).Campaign(w.ctx, "A")
			require.ErrorIs(w, err, is, "%q", name)
		}
		_, err := NewElection(nil, "e").Campaign(w.ctx, "A")
		require.ErrorIs(w, err, ErrSessionClosed)

		w.campaign(NewElection(w.session("b"), "in/use"), "B")
		_, err = NewElection(s, "in").Campaign(w.ctx, "A")
		require.ErrorIs(w, err, ErrNestedName)
		require.True(w, strings.Contains(err.Error(), `"in"`) && strings.Contains(err.Error(), `"in/use"`), err)
		w.pass(time.Second)
		require.Len(w, w.Keys("in/"), 1)
	})
}

func TestACampaignThatEtcdRefusesFailsWithItsReason(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("a"), "e")
		w.once("a", simetcd.Txn, simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied})
		_, err := e.Campaign(w.ctx, "A")
		require.ErrorIs(w, err, rpctypes.ErrPermissionDenied)
		w.campaign(e, "A")
	})
}
