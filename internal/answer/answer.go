// Package answer reads the errors of etcd's client.
package answer

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Final tells an answer from the lack of one. What the connection, a member
// without a leader or an overloaded server says is not the last word; nor is a
// token that ran out, since the client has got another by the next try (trap E1).
func Final(err error) bool {
	err = rpctypes.Error(err) // as a stream of ours gives it, it is bare gRPC
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
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code() != codes.Unavailable
	}
	s, ok := status.FromError(err)
	if !ok {
		return true // not from the other side, but from our own
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal,
		codes.Unknown: // what etcd has no code for, as "raft proposal dropped" while a leader hands over
		return false
	default:
		return true
	}
}
