package lease

import "github.com/etcdlock/etcdlock/internal/lockerr"

// givenUpError is the cause of the end of a lease after StopRenewing.
type givenUpError struct{ why error }

func (e *givenUpError) Error() string   { return "the lease was given up on purpose: " + e.why.Error() }
func (e *givenUpError) Unwrap() []error { return []error{lockerr.ErrExpired, e.why} }
