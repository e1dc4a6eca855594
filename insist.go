package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// insist sends a request until etcd gives an answer that counts. Each try has a bound of its own,
// and the next try may go to another member: one that hangs with its connections open answers
// nothing, and the request would hang as long as the member does. The request must be one that can
// be sent twice.
//
// insist ends with ctx, whose error it returns with that of the last try, or with the client.
func (s *Session) insist(ctx context.Context, try func(context.Context) error) error {
	policy := etcdkv.Policy{
		First: 50 * time.Millisecond, Longest: time.Second, Seed: int64(os.Getpid()),
		Bound: etcdkv.WithBound, Client: s.client,
	}
	var last error
	_, err := etcdkv.Retry(ctx, policy, func(ctx context.Context) error {
		last = try(ctx)
		return last
	})
	switch {
	case last == nil || answer.Final(last):
		return last
	case ctx.Err() == nil:
		return err
	default:
		return fmt.Errorf("%w; the last try: %w", lockerr.OfContext(ctx), unanswered(last))
	}
}

// within returns a context that ends with ctx, or with the session. A call that asks etcd by the
// context of its caller needs it: after the end of the client each try fails as if etcd were out of
// reach, and is repeated.
func (s *Session) within(ctx context.Context) (context.Context, func()) {
	within, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(s.Err()) })
	return within, func() { stop(); cancel(nil) }
}

// unanswered is the error of a try that got no answer. Only the bound of the try has ended it if etcd
// was reached and said nothing.
func unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errSilent
	}
	return err
}

var errSilent = errors.New("no answer, as from a member that hangs or is cut off")

// insistAloud is insist for a start: it logs once, after a second, that etcd is waited for, and why.
func (s *Session) insistAloud(ctx context.Context, what string, try func(context.Context) error) error {
	began, told := time.Now(), false
	return s.insist(ctx, func(ctx context.Context) error {
		err := try(ctx)
		if err != nil && !answer.Final(err) && !told && time.Since(began) >= etcdkv.FirstBound {
			told = true
			s.log.Warn("etcd has not answered yet; "+what+" waits for it",
				zap.Strings("endpoints", s.client.Endpoints()), zap.NamedError("reason", unanswered(err)))
		}
		return err
	})
}
