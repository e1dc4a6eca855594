package etcdlock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A call that asks etcd by the context of its caller ends with its session. After the end of the
// client each try fails as if etcd were out of reach, and would be repeated without end.
func TestACallThatWaitsForEtcdEndsWithItsSession(t *testing.T) {
	calls := map[string]func(ctx context.Context, s *Session) error{
		"Mutex.Queue": func(ctx context.Context, s *Session) error {
			_, err := NewMutex(s, "e").Queue(ctx)
			return err
		},
		"MultiMutex.Queue": func(ctx context.Context, s *Session) error {
			_, err := NewMultiMutex(s, []string{"e"}).Queue(ctx)
			return err
		},
		"Election.Candidates": func(ctx context.Context, s *Session) error {
			_, err := NewElection(s, "e").Candidates(ctx)
			return err
		},
		"Election.Leader": func(ctx context.Context, s *Session) error {
			_, err := NewElection(s, "e").Leader(ctx)
			return err
		},
		"Session.Deadlocks": func(ctx context.Context, s *Session) error {
			_, err := s.Deadlocks(ctx, "e")
			return err
		},
		"Session.Ask": func(ctx context.Context, s *Session) error { return s.Ask(ctx, "e", "for a test") },
		"Semaphore.Limit": func(ctx context.Context, s *Session) error {
			_, err := NewSemaphore(s, "e", 3).Limit(ctx)
			return err
		},
		"Semaphore.SetLimit": func(ctx context.Context, s *Session) error {
			return NewSemaphore(s, "e", 3).SetLimit(ctx, 4)
		},
	}
	ends := map[string]func(w *world, s *Session){
		"its client is closed": func(w *world, _ *Session) { _ = w.Client("a").Close() },
		"it is closed":         func(w *world, s *Session) { go func() { _ = s.Close(w.ctx) }() },
	}
	for what, call := range calls {
		for how, end := range ends {
			t.Run(what+" when "+how, func(t *testing.T) {
				simulate(t, func(w *world) {
					s := w.session("a")
					w.Client("a").Cut()
					p := start(w, func(ctx context.Context) (any, error) { return nil, call(ctx, s) })
					w.pass(time.Second)
					p.isWaiting()
					end(w, s)
					w.pass(time.Millisecond)
					select {
					case <-p.done:
						require.True(w, errors.Is(p.err, ErrSessionClosed) || errors.Is(p.err, ErrClientClosed), p.err)
					default:
						require.Fail(w, "it still waits")
					}
				})
			})
		}
	}
}
