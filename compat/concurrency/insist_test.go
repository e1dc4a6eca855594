package concurrency

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report R4: a request that a member takes and does not answer is sent again soon, also under a
// context without an end.
func TestARequestThatHangsIsSentAgain(t *testing.T) {
	const soon = 3 * time.Second // the bound of the first try, and a second one
	resumed := func(w *world) *Election {
		old := w.session("old")
		e := NewElection(old, "e")
		require.NoError(w, e.Campaign(w.ctx, "one"))
		key, rev := e.Key(), e.Rev()
		old.Orphan()
		return ResumeElection(w.session("a", WithLease(old.Lease())), "e", key, rev)
	}
	for lost, act := range map[string]simetcd.Action{"request": {DropRequest: true}, "answer": {DropReply: true}} {
		for what, of := range map[string]struct {
			kind simetcd.Kind
			call func(w *world) func(context.Context) error // that is under way when the request is lost
			then func(w *world)
		}{
			"Leader": {simetcd.Range, func(w *world) func(context.Context) error {
				e := NewElection(w.session("a"), "e")
				require.NoError(w, e.Campaign(w.ctx, "one"))
				return func(ctx context.Context) error {
					resp, err := e.Leader(ctx)
					if err == nil {
						require.Equal(w, "one", string(resp.Kvs[0].Value))
					}
					return err
				}
			}, func(*world) {}},
			"Proclaim of a resumed election": {simetcd.Txn, func(w *world) func(context.Context) error {
				e := resumed(w)
				return func(ctx context.Context) error { return e.Proclaim(ctx, "two") }
			}, func(w *world) { require.Equal(w, "two", string(w.Keys("e/")[0].Value)) }},
			"Resign of a resumed election": {simetcd.Txn, func(w *world) func(context.Context) error {
				return resumed(w).Resign
			}, func(w *world) { require.Empty(w, w.Keys("e/")) }},
			"Unlock of what was unlocked through another Mutex": {simetcd.Txn, func(w *world) func(context.Context) error {
				s := w.session("a", WithReentry())
				one, two := NewMutex(s, "m"), NewMutex(s, "m")
				require.NoError(w, one.Lock(w.ctx))
				require.NoError(w, two.Lock(w.ctx))
				require.NoError(w, one.Unlock(w.ctx))
				return two.Unlock
			}, func(w *world) { require.Empty(w, w.Keys("m/")) }},
			"NewSession below the least TTL": {simetcd.LeaseGrant, func(w *world) func(context.Context) error {
				w.SetMinTTL(5 * time.Second)
				return func(ctx context.Context) error {
					s, err := NewSession(w.Client("a").Client, WithTTL(2), WithContext(ctx))
					if err == nil {
						err = s.Close()
					}
					return err
				}
			}, func(w *world) {
				w.pass(10 * time.Second)
				require.Empty(w, w.Leases())
			}},
		} {
			t.Run(what+", "+lost, func(t *testing.T) {
				simulate(t, func(w *world) {
					call := of.call(w)
					n := 0
					w.Intercept(func(c simetcd.Call) simetcd.Action {
						if c.Client != "a" || c.Kind != of.kind {
							return simetcd.Action{}
						}
						if n++; n == 2 && of.kind == simetcd.LeaseGrant || n == 1 && of.kind != simetcd.LeaseGrant {
							return act // of Grants the second one, by which the TTL is raised
						}
						return simetcd.Action{}
					})
					began := time.Now()
					require.NoError(w, w.start(call).result())
					require.Less(w, time.Since(began), soon)
					require.Greater(w, time.Since(began), 900*time.Millisecond, "it was lost")
					w.Intercept(nil)
					of.then(w)
				})
			})
		}
	}
}

// A try of a Proclaim that arrives late does not undo a later Proclaim.
func TestALateTryOfAProclaimUndoesNothing(t *testing.T) {
	simulate(t, func(w *world) {
		old := w.session("old")
		e := NewElection(old, "e")
		require.NoError(w, e.Campaign(w.ctx, "one"))
		key, rev := e.Key(), e.Rev()
		old.Orphan()
		e = ResumeElection(w.session("a", WithLease(old.Lease())), "e", key, rev)
		require.NoError(w, e.Proclaim(w.ctx, "one"))
		w.next("a", simetcd.Txn, simetcd.Action{DelayRequest: 5 * time.Second})
		require.NoError(w, e.Proclaim(w.ctx, "two"))
		require.NoError(w, e.Proclaim(w.ctx, "three"))
		w.pass(10 * time.Second)
		require.Equal(w, "three", w.leader(e))
	})
}

// What is sent again ends with its context, with the session and with the client.
func TestWhatIsSentAgainEnds(t *testing.T) {
	simulate(t, func(w *world) {
		old := w.session("old")
		e := NewElection(old, "e")
		require.NoError(w, e.Campaign(w.ctx, "one"))
		key, rev := e.Key(), e.Rev()
		old.Orphan()
		s := w.session("a", WithLease(old.Lease()))
		e = ResumeElection(s, "e", key, rev)
		w.Client("a").Cut()
		require.ErrorIs(w, e.Proclaim(w.timeout(3*time.Second), "two"), context.DeadlineExceeded)
		require.ErrorIs(w, e.Resign(w.timeout(time.Second)), context.DeadlineExceeded)
		proclaims, leader := w.start(func(ctx context.Context) error { return e.Proclaim(ctx, "two") }), w.start(func(ctx context.Context) error {
			_, err := e.Leader(ctx)
			return err
		})
		require.ErrorIs(w, proclaims.result(), ErrElectionNotLeader)
		require.Error(w, s.Ctx().Err(), "with the session's lease")
		leader.isWaiting()
		require.NoError(w, w.Client("a").Close())
		require.ErrorIs(w, leader.result(), etcdlock.ErrClientClosed)
	})
}
