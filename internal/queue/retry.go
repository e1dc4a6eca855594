package queue

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/backoff"
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
	for n := 0; ; n++ {
		bounded, cancel := context.WithTimeout(ctx, requestTimeout)
		err = try(bounded)
		cancel()
		switch {
		case err == nil:
			return unanswered, nil
		case ctx.Err() != nil:
			return true, context.Cause(ctx)
		case final(err):
			return unanswered, err
		}
		unanswered = true
		if err := sleep(ctx, pause(n, seed)); err != nil {
			return true, err
		}
	}
}

// final tells an answer from the lack of one. What the connection, a member
// without a leader or an overloaded server says is not the last word; nor is a
// token that ran out, since the client has got another by the next try (trap E1).
func final(err error) bool {
	for _, passing := range []error{
		rpctypes.ErrTooManyRequests, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision,
	} {
		if errors.Is(err, passing) {
			return false
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// Not ours, as the caller's context stands: the bound of one try, or a
		// context that the other side or the transport gave up.
		return false
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal:
		return false
	default:
		return true
	}
}

// code is the gRPC code of an error of etcd's client, which wraps some of them.
func code(err error) codes.Code {
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code()
	}
	return status.Code(err)
}

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
