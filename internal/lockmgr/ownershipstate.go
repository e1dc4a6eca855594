package lockmgr

import "github.com/etcdlock/etcdlock/internal/states"

// ownershipState is how far an ownership is.
type ownershipState uint8

const (
	held       ownershipState = iota // by one holder or more, or it is about to be
	kept                             // no holder; the key stays for the next caller, see WithRetention
	converting                       // a reader is becoming a writer, or a writer a reader
	releasing                        // no caller gets it any more, and the key is to be deleted
	lost                             // no caller gets it any more: the key or the lease is gone
	gone                             // nothing is left in etcd, or it goes with the lease
	uncertain                        // etcd refuses to delete the key, and the sweeper tries again
)

func (s ownershipState) String() string {
	return [...]string{"held", "kept", "converting", "releasing", "lost", "gone", "uncertain"}[s]
}

// ownershipStates are the legal edges between the states of an ownership. It is held at first:
//
//	from                    to          when
//	held                    kept        the last holder has released, with retention
//	kept                    held        a caller takes the kept key
//	held                    converting  an upgrade or a downgrade has begun
//	converting              held        it is through, or has failed
//	held, kept, converting  releasing   the last holder has released, or a kept key is given up
//	held, kept, converting  lost        the key was found deleted, or the lease has ended
//	releasing, lost         gone        the key is deleted, or goes with the lease
//	releasing, lost         uncertain   etcd refuses to delete the key
var ownershipStates = states.Table[ownershipState]{Of: "ownership", Edges: map[ownershipState][]ownershipState{
	held:       {kept, converting, releasing, lost},
	kept:       {held, releasing, lost},
	converting: {held, releasing, lost},
	releasing:  {gone, uncertain},
	lost:       {gone, uncertain},
}}

// become changes the state. It is the one place where the state changes. Called with Manager.mu held.
func (t *ownership) become(to ownershipState) {
	if err := ownershipStates.Check(t.state, to); err != nil {
		t.local.manager.cfg.Fail(err)
		return
	}
	t.state = to
	if to == releasing || to == lost {
		t.local.manager.ending()
	}
}

// ended tells whether no caller gets the ownership any more. Called with Manager.mu held.
func (t *ownership) ended() bool { return t.state >= releasing }

// open tells whether the ownership can have another holder: it goes on, and the lease has not been
// ended. The lease was looked at before, without the mutex. Called with Manager.mu held.
func (t *ownership) open() bool {
	return t != nil && !t.ended() && t.life.Cause() == nil
}

// close ends the ownership for callers. Called with Manager.mu held.
func (t *ownership) close() {
	switch {
	case t.ended():
	case t.life.Cause() != nil:
		t.become(lost)
	default:
		t.become(releasing)
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.young.Stop()
	t.guard.Stop()
}

// end is close, and has the key deleted. Called with Manager.mu held.
func (t *ownership) end() {
	t.close()
	t.leave()
}

// found ends the ownership for callers, whose key was found deleted. It returns false if it had ended
// before. Called with Manager.mu held.
func (t *ownership) found() bool {
	if t.ended() {
		return false
	}
	t.become(lost)
	t.close()
	return true
}
