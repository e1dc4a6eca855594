//go:build !lockorder

// Package lockorder has one mutex type for each place in the order in which the library takes its
// mutexes. They are sync.Mutex, but in a build with the tag lockorder, where a mutex that is taken in
// another order panics. That is a build of its own, as the check puts all goroutines in an order, which
// would hide their races from the race detector.
//
//	Session -> Manager -> Hold
//	Session -> Lease
//
// Lease is never taken while Manager or Hold is held. A goroutine takes no two of one type.
package lockorder

import "sync"

// The mutexes of the owners that they are named after.
type (
	Session = sync.Mutex
	Manager = sync.Mutex
	Hold    = sync.Mutex
	Lease   = sync.Mutex
)
