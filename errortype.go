package etcdlock

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// errorTypes are the words of ErrorType. An error gets the first one that it matches, so an error
// comes before the more general ones that it also matches.
var errorTypes = []struct {
	err  error
	word string
}{
	{ErrDeadlock, "deadlock"},
	{ErrUnconfirmed, "unconfirmed"},
	{ErrReleased, "released"},
	{ErrOrphaned, "orphaned"},
	{ErrClientClosed, "client_closed"},
	{ErrSessionClosed, "closed"},
	{ErrNoProgress, "no_progress"},
	{ErrExpired, "expired"},
	{ErrRevoked, "revoked"},
	{ErrEvicted, "evicted"},
	{ErrRolledBack, "rolled_back"},
	{ErrHeldTooLong, "held_too_long"},
	{ErrLost, "lost"},
	{ErrUnhealthy, "unhealthy"},
	{ErrPreempted, "preempted"},
	{ErrResignRequested, "resign_requested"},
	{context.DeadlineExceeded, "deadline_exceeded"},
	{context.Canceled, "canceled"},
	{ErrLocked, "locked"},
	{ErrNestedName, "nested_name"},
	{ErrReentryLimit, "reentry_limit"},
	{ErrUpgradeConflict, "upgrade_conflict"},
	{ErrLimitMismatch, "limit_mismatch"},
	{ErrNoLeader, "no_leader"},
	{ErrNoCandidate, "no_candidate"},
	{ErrNotHonoured, "not_honoured"},
	{ErrLeaseNotFound, "lease_not_found"},
	{ErrLeaseFileInUse, "lease_file_in_use"},
	{ErrInvalidArgument, "invalid_argument"},
	{ErrInvalidOption, "invalid_option"},
}

// grpcTypes are the words for what etcd, or the connection to it, answers.
var grpcTypes = map[codes.Code]string{
	codes.PermissionDenied: "permission_denied", codes.Unauthenticated: "unauthenticated", codes.Unavailable: "unavailable",
	codes.NotFound:         "lease_not_found", // of etcd's leases
	codes.DeadlineExceeded: "deadline_exceeded", codes.Canceled: "canceled", codes.ResourceExhausted: "resource_exhausted",
}

// ErrorType returns one word for an error, for a label of a metric or an attribute of a span. There
// are fewer than 40 words, whatever the text of the error is. It returns "" for nil, and "_OTHER" for
// an error without a word, as the semantic conventions of OpenTelemetry ask for.
//
// The end of a hold is "released", "closed", "expired", "revoked", "evicted", "orphaned",
// "client_closed", "rolled_back", "held_too_long" or "no_progress".
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.err) {
			return t.word
		}
	}
	var etcd rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	if word, ok := grpcTypes[code]; ok {
		return word
	}
	return "_OTHER"
}
