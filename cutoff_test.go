package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A caller that gives up while its deletion is in flight returns at once, and the key is still
// deleted.
func TestWhoGivesUpInUnlockReturnsAtOnce(t *testing.T) {
	const patience = 300 * time.Millisecond
	for what, bounded := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"by a deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, patience)
		},
		"by a cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(patience, cancel)
			return ctx, cancel
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				m := NewMutex(w.session("a"), "m")
				l := w.lock(m)
				w.next("a", simetcd.Txn, simetcd.Action{DropRequest: true})
				ctx, cancel := bounded(w.ctx)
				defer cancel()
				began := time.Now()
				err := l.Unlock(ctx)
				require.ErrorIs(w, err, ctx.Err())
				require.Equal(w, patience, time.Since(began))
				w.pass(time.Second)
				w.empty("m")
				require.NoError(w, w.lock(m).Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// With the lease a request under it ends, and its caller is told at once.
func TestWithTheLeaseAFirstRequestEnds(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a")
		held := w.lock(NewMutex(s, "other"))
		w.Client("a").Cut()
		deadline := held.Deadline()
		w.pass(time.Until(deadline) - 300*time.Millisecond)
		p := begin(w, NewMutex(s, "m").Lock)
		p.isWaiting()
		p.fails(ErrExpired)
		require.Equal(w, deadline, p.at)
		w.Client("a").Heal()
		w.pass(ttl)
		w.empty("m")
		require.NoError(w, w.lock(NewMutex(s, "m")).Unlock(w.ctx))
		w.allGone()
	})
}
