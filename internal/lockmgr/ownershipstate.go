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
