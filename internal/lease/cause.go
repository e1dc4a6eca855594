package lease

import "errors"

// ErrLost is matched by the cause of every death of a lease but an orderly one.
var ErrLost = errors.New("lost")

// Causes of a lease's death, each wrapped by Lost.
var (
	// ErrExpired: no renewal was answered in time. The cause of a lease that was given up on
	// purpose, see Starve, matches it too, and says so.
	ErrExpired = errors.New("the lease expired, as no renewal was answered in time")
	// ErrRevoked: etcd did not know the lease before its time was over.
	ErrRevoked = errors.New("the lease was revoked in etcd")
	// ErrRolledBack: etcd has other or older data than before.
	ErrRolledBack = errors.New("etcd was rolled back: its data is older than before, or that of another cluster")
)

// ErrNotFound is returned by Resume for a lease that etcd does not know.
var ErrNotFound = errors.New("lease not found in etcd")

// givenUpError is the cause of a lease that was renewed no more on purpose.
type givenUpError struct{ why error }

func (e *givenUpError) Error() string   { return "the lease was given up on purpose: " + e.why.Error() }
func (e *givenUpError) Unwrap() []error { return []error{ErrExpired, e.why} }

// Lost is the error of something that was lost for a reason: it matches both
// ErrLost and the reason.
func Lost(reason error) error { return &lostError{reason} }

type lostError struct{ reason error }

func (e *lostError) Error() string   { return "lost: " + e.reason.Error() }
func (e *lostError) Unwrap() []error { return []error{ErrLost, e.reason} }
