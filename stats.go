package etcdlock

import (
	"time"
)

// Stats are figures of a session, see [Session.Stats].
type Stats struct {
	State          State
	LeaseRemaining time.Duration // until all holds end, unless a renewal is answered; 0 without a lease

	Holds      int           // acquisitions that are held
	OldestHold time.Duration // how long the oldest of them has lasted
	Kept       int           // keys that [WithRetention] keeps without a holder
	Waiting    int           // calls that wait for a grant, without Upgrade
	LeftBehind int           // keys that the session still deletes, as a request got no answer

	// The counts below begin with the session and only grow. An Upgrade or a Downgrade counts as a
	// grant if it succeeds. Otherwise it is in none of them, because the hold goes on.

	Free     int64 // grants of a name that nothing was in the way of
	Retained int64 // grants of a key that the session had kept
	Local    int64 // grants in memory, from or beside another goroutine of the session
	Queued   int64 // grants after a wait in etcd

	Locked int64 // calls that were refused with [ErrLocked], without a wait
	GaveUp int64 // calls whose context ended first
	Failed int64 // calls with another error

	Released int64 // holds that were released
	Lost     int64 // holds that were lost while the session went on
	Leases   int64 // leases that the session has had; above 1 after a loss
}

// Stats returns figures of the session, for metrics and for people. It makes no request. It takes
// time in proportion to the names in use, and calls go on meanwhile.
//
// An [Election.Run] with a lease of its own ([WithStopTimeout], [WithProgress]) has a session of its
// own, which is not counted here. A [Trace] hears of both.
func (s *Session) Stats() Stats {
	if s.valid() != nil {
		return Stats{State: StateClosed}
	}
	m, l := s.manager.Stats(), s.engine.LastLease()
	return Stats{
		State: s.State(), LeaseRemaining: max(l.Remaining(), 0),
		Holds: m.Holds, OldestHold: m.Oldest, Kept: m.Kept, Waiting: m.Waiting, LeftBehind: m.Uncertain,
		Free: m.Grants[PathFree-1], Retained: m.Grants[PathRetained-1], Local: m.Grants[PathLocal-1], Queued: m.Grants[PathQueued-1],
		Locked: s.refused.locked.Load(), GaveUp: s.refused.gaveUp.Load(), Failed: s.refused.failed.Load(),
		Released: m.Released, Lost: m.Lost, Leases: s.engine.LeaseCount(),
	}
}
