package etcdlock

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/session"
)

// Term is one leadership of an [Election].
type Term struct {
	hold
	value    atomic.Pointer[string]
	progress leaderloop.Progress

	transferred atomic.Bool // true: a Transfer ends or has ended the term

	engine        *session.Session // of the session that has the term
	takeoverDelay time.Duration    // the takeover delay, see WithTakeover
}

// Value returns the value that the leader proposed, or the last one that it proclaimed with
// success.
func (t *Term) Value() string {
	if v := t.value.Load(); v != nil {
		return *v
	}
	return ""
}

// Proclaim changes the leader's value for observers. The term and its place in the queue stay. It
// blocks until etcd has confirmed the value, ctx ends or the term ends.
//
// Errors:
//   - the error of ctx: it is unknown whether observers see the new value. The term continues, and
//     Proclaim or Resign may follow.
//   - [ErrLost], [ErrReleased] or [ErrSessionClosed]: the term is over, and nothing was written.
func (t *Term) Proclaim(ctx context.Context, value string) error {
	return opError("proclaim in", t.Name(), t.proclaim(ctx, value))
}

func (t *Term) proclaim(ctx context.Context, value string) error {
	if err := t.Err(); err != nil {
		return err
	}
	if err := t.of.Rewrite(ctx, value); err != nil {
		return err
	}
	t.value.Store(&value)
	return nil
}

// Resign ends the term, so that the next candidate can lead. It blocks as [Lock.Unlock] does, and
// its errors, such as [ErrUnconfirmed], have the same meaning. Work that must not overlap with the
// work of the next leader has to end before the call.
func (t *Term) Resign(ctx context.Context) error {
	return opError("resign from", t.Name(), t.release(ctx))
}

// Progress reports that the work of the term continues, for [WithProgress]. It does nothing without
// that option. It is cheap, never blocks, and may be called by any goroutine.
func (t *Term) Progress() { t.progress.Report() }

// StuckTerm is a term with a function that has not returned in time after its context ended.
type StuckTerm struct {
	Term  *Term
	Cause error         // why its context ended
	After time.Duration // how long ago
}
