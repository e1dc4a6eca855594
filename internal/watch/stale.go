package watch

import (
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// stale tells whether a refusal is for the token that the stream was opened with, which it has
// for good (trap E1): another stream gets another one.
func stale(reason string) bool {
	for _, err := range []error{rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty} {
		if strings.Contains(reason, rpctypes.ErrorDesc(err)) {
			return true
		}
	}
	return false
}
