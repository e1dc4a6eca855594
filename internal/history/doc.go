// Package history records what clients of locks and elections did and saw, and checks it against a model of each
// primitive with porcupine. Only tests import it.
//
// A hold counts from the return of the call that acquired it until the call of its release or the end of its context,
// whichever came first. If two exclusive holds overlap, or a token does not grow, then no order of the operations is legal
// for a lock.
//
// # Unknown outcomes
//
// A release without an answer may have taken effect at any later time. Each open release doubles the work of the checker,
// and with a few dozen the check would not end. So evidence closes them: the time at which a watch reported the deletion
// of the hold's key bounds the release. Check refuses a history with a release that no evidence closes, and takes an
// undecided check for a failure.
//
// An acquisition of unknown outcome (its process died) needs no evidence and is left out. No process ever acted on it, so
// it can neither break a history nor excuse one.
//
//	record := history.NewRecorder(now)
//	a := record.Acquire("orders/42", session)
//	lock, err := mutex.Lock(ctx)
//	a.Returned(err, created, token)
//	...
//	a.Over()                        // before Unlock, or when lock.Done() is closed
//	a.Released(lock.Unlock(ctx))
//	...
//	err = history.Check(history.Mutex, record.Ops(), evidence)
package history
