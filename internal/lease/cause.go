package lease

import "errors"

// ErrLost is matched by the cause of every death of a lease but an orderly one.
var ErrLost = errors.New("lost")

// Causes of a lease's death, each wrapped by Lost.
var (
	// ErrExpired: no renewal was answered in time.
	ErrExpired = errors.New("the lease expired, as no renewal was answered in time")
	// ErrRevoked: etcd did not know the lease before its time was over.
	ErrRevoked = errors.New("the lease was revoked in etcd")
)

// ErrNotFound is returned by Resume for a lease that etcd does not know.
var ErrNotFound = errors.New("lease not found in etcd")

// Lost is the error of something that was lost for a reason: it matches both
// ErrLost and the reason.
func Lost(reason error) error { return &lostError{reason} }

type lostError struct{ reason error }

func (e *lostError) Error() string   { return "lost: " + e.reason.Error() }
func (e *lostError) Unwrap() []error { return []error{ErrLost, e.reason} }
