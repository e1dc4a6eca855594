package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// insist tries a request until etcd gives an answer that counts. Each try has a bound of its own, and
// the next one goes to another member with luck: one that hangs with its connections open answers
// nothing, and the request would hang as long as the member does. The request must be one that can
// be sent twice.
//
// It ends with ctx, with the error of ctx and that of the last try, or with the client.
func (s *Session) insist(ctx context.Context, try func(context.Context) error) error {
	for n := 0; ; n++ {
		bounded, cancel := context.WithTimeout(ctx, queue.Bound(n))
		err := try(bounded)
		cancel()
		if err == nil || answer.Final(err) {
			return err
		}
		select {
		case <-time.After(backoff.Delay(n, 50*time.Millisecond, time.Second, int64(os.Getpid()))):
		case <-s.client.Ctx().Done():
			return ErrClientClosed
		case <-ctx.Done():
			return fmt.Errorf("%w; the last try: %w", contextError(ctx), unanswered(err))
		}
	}
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
		if err != nil && !answer.Final(err) && !told && time.Since(began) >= queue.FirstBound {
			told = true
			s.log.Warn("etcd has not answered yet; "+what+" waits for it",
				zap.Strings("endpoints", s.client.Endpoints()), zap.NamedError("reason", unanswered(err)))
		}
		return err
	})
}
