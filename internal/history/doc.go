// Package history records what clients of locks and elections did and saw, and checks it against a model of each
// primitive with porcupine. Only tests import it.
//
// A hold counts from the return of the call that got it until its end: the call of its release, or the end of its
// context, whichever came first. So two holds that overlap have no order in which a lock could have granted them, and
// neither has a hold whose token does not grow.
//
// # Unknown outcomes
//
// A release that was not answered may have happened at any time since. Left open, each of them doubles the work of the
// checker, and a few dozen make it run for ever. So they are closed by evidence: a watch that saw the key of the hold go
// says until when the release was through. Check refuses what no evidence closes, and takes "do not know" for a failure.
//
// An acquisition of unknown outcome (its process died) needs no evidence and is left out: nobody ever acted on it, so it
// can neither break a history nor excuse one.
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
