// Package answer reads the errors of etcd's client.
package answer

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Final reports whether an error is etcd's final answer to a request. Errors of the
// connection, of a member without a leader and of an overloaded server are not
// final. Neither is an expired token, because the next try uses another one
// (trap E1).
func Final(err error) bool {
	err = rpctypes.Error(err) // the streams of this library return bare gRPC errors
	for _, passing := range []error{
		rpctypes.ErrTooManyRequests, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision,
	} {
		if errors.Is(err, passing) {
			return false
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// The caller's context has not ended, so this is the bound of one try, or a
		// context that the server or the transport cancelled.
		return false
	}
	var etcd rpctypes.EtcdError
	if errors.As(err, &etcd) {
		return etcd.Code() != codes.Unavailable
	}
	s, ok := status.FromError(err)
	if !ok {
		return true // from this side, not from etcd
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal,
		codes.Unknown: // errors without a code, such as "raft proposal dropped" during a leader's transfer
		return false
	default:
		return true
	}
}
