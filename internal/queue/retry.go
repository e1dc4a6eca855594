package queue

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
)

// retry tries a request until etcd gives an answer that counts, or ctx ends; then
// the error is the context's cause. Every request of this package can be sent
// twice: the writes are guarded by what the first one would have changed.
//
// seed spreads the tries of different sessions.
//
// unanswered says that a try got no answer: whether it took effect is not known,
// nor even whether it still will.
func retry(ctx context.Context, seed int64, try func(context.Context) error) (unanswered bool, err error) {
	return retryBounded(ctx, seed, timeout, try)
}

// Retry is retry for requests of other packages. The requests must be ones that can be sent twice.
func Retry(ctx context.Context, seed int64, try func(context.Context) error) (unanswered bool, err error) {
	return retry(ctx, seed, try)
}

// timeout bounds try n.
func timeout(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, bound(n))
}

// retry is retry without a timer for each first try, and without telling the server how long
// it has.
func (w *Writer) retry(ctx context.Context, seed int64, try func(context.Context) error) (unanswered bool, err error) {
	return retryBounded(ctx, seed, w.bounded, try)
}

// RequestContext bounds one try of a request that a caller makes by itself, under a lease.
func (w *Writer) RequestContext(lease, caller context.Context) (context.Context, *sharedtimer.Pooled) {
	ctx, l := w.contexts.Take(lease, caller)
	l.Once = w.Direct == nil // of what stands in for clientv3's KV it is not known what that does
	return ctx, l
}

// bounded bounds try n.
func (w *Writer) bounded(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	if bound(n) == FirstBound {
		return w.patience.Context(ctx)
	}
	return timeout(ctx, n)
}

func retryBounded(ctx context.Context, seed int64, bounded func(context.Context, int) (context.Context, context.CancelFunc),
	try func(context.Context) error) (unanswered bool, err error) {
	for n := 0; ; n++ {
		bounded, cancel := bounded(ctx, n)
		err = try(bounded)
		cancel()
		switch {
		case err == nil:
			return unanswered, nil
		case ctx.Err() != nil:
			return true, context.Cause(ctx)
		case answer.Final(err):
			return unanswered, err
		}
		unanswered = true
		if err := sleep(ctx, pause(n, seed)); err != nil {
			return true, err
		}
	}
}

// Bound is how long try n of a request waits for its answer.
func Bound(n int) time.Duration { return bound(n) }

// bound is how long try n waits for its answer. The first ones do not wait for long: a member
// that hangs with its connections open answers nothing, one that has lost its leader answers
// after seconds, and the next try goes to another member.
func bound(n int) time.Duration {
	return min(FirstBound<<min(max(n-1, 0), 2), requestTimeout) // further on the shift would leave nothing
}

// FirstBound is the bound of the first tries.
const FirstBound = time.Second

// pause is the time before try n of something that failed.
func pause(n int, seed int64) time.Duration {
	return backoff.Delay(n, 20*time.Millisecond, time.Second, seed)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
