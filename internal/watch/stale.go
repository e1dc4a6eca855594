package watch

import (
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// stale reports whether etcd refused the token with which the stream was opened. A stream keeps its token
// (trap E1), and another stream gets another one.
func stale(reason string) bool {
	for _, err := range []error{rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty} {
		if strings.Contains(reason, rpctypes.ErrorDesc(err)) {
			return true
		}
	}
	return false
}
