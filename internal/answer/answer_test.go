package answer

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestARefusalIsFinalAndTroubleIsNot(t *testing.T) {
	for _, err := range []error{
		rpctypes.ErrPermissionDenied, rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrLeaseNotFound, rpctypes.ErrCompacted,
		rpctypes.ErrNoSpace, rpctypes.ErrUserNotFound, rpctypes.ErrTooManyOps,
		status.Error(codes.Unauthenticated, "no"), errors.New("anything that etcd did not say"),
		fmt.Errorf("wrapped: %w", rpctypes.ErrPermissionDenied),
	} {
		require.True(t, Final(err), "%v", err)
	}
	for _, err := range []error{
		rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrStopped,
		rpctypes.ErrTooManyRequests, rpctypes.ErrInvalidAuthToken, rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrAuthOldRevision,
		status.Error(codes.Unknown, "raft proposal dropped"), status.Error(codes.Unavailable, "connection refused"), status.Error(codes.Internal, "transport"),
		context.DeadlineExceeded, context.Canceled, fmt.Errorf("wrapped: %w", rpctypes.ErrNoLeader),
	} {
		require.False(t, Final(err), "%v", err)
	}
}
