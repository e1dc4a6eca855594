package local

import "github.com/etcdlock/etcdlock/internal/states"

// phase is how far a local queue is with its entry in etcd.
type phase uint8

const (
	idle     phase = iota // no waiter, and nothing of it is left in etcd
	entering              // a waiter, and no entry that is known to wait
	waiting               // the entry has to wait
	owned                 // the session owns the lock by the entry
	leaving               // the worker deletes the entry
)

func (p phase) String() string {
	return [...]string{"idle", "entering", "waiting", "owned", "leaving"}[p]
}

// Phases are the legal edges between the phases of a local queue. It is idle at first:
//
//	from               to        when
//	idle               entering  a waiter joins
//	entering           waiting   the entry has to wait
//	entering, waiting  owned     the entry is granted, and stays in the local queue
//	entering, waiting  leaving   no waiter is left, or etcd refuses the wait
//	owned              leaving   the last hold has ended, and the worker deletes the key
//	any but idle       idle      nothing is left in etcd, and no waiter
//	any but idle       entering  nothing is left in etcd, and another waiter has joined; or the last holder
//	                             has entered again, or may have
var Phases = states.Table[phase]{Of: "local queue", Edges: map[phase][]phase{
	idle:     {entering},
	entering: {waiting, owned, leaving, idle},
	waiting:  {owned, leaving, idle, entering},
	owned:    {leaving, idle, entering},
	leaving:  {idle, entering},
}}

// driver is what acts next for a local queue. There is one at a time.
type driver uint8

const (
	driverNone   driver = iota // nothing does, as there is nothing to do
	driverCaller               // a caller enters by one request, and waits if it can; or the last holder does
	driverHolder               // a holder deletes its key, which is not watched so far
	driverKeeper               // a holder deletes its key, which the keeper of the session watches
	driverWorker               // the goroutine of the local queue
)

func (d driver) String() string {
	return [...]string{"none", "caller", "holder", "keeper", "worker"}[d]
}

// holds tells whether a holder deletes its key, unless there is more to do.
func (d driver) holds() bool { return d == driverHolder || d == driverKeeper }

// Drivers are the legal edges between the drivers of a local queue. A new one has none:
//
//	from    to      when
//	none    caller  a caller finds the local queue without a driver, and enters
//	none    worker  the same, and the caller cannot enter by one request; or the inbox of an idle queue is to be deleted
//	caller  holder  the request or the wait was the grant
//	caller  worker  the caller cannot wait, or gives up, or the outcome of its request is unknown
//	caller  none    etcd refuses the request, and no other caller waits
//	holder  caller  the last holder deletes its key and enters for a waiter, by one request
//	holder  keeper  the hold has lasted for a while
//	holder  worker  there is something to wait for
//	holder  none    nothing is left in etcd, and no caller waits
//	keeper  worker  there is something to wait for
//	keeper  none    nothing is left in etcd, and no caller waits
//	worker  holder  the request was the grant, and no watch is to be listened to
//	worker  keeper  the worker has listened to the watch of its queue for a while during a hold
//	worker  none    nothing is left in etcd, and no caller waits
var Drivers = states.Table[driver]{Of: "driver of a local queue", Edges: map[driver][]driver{
	driverNone:   {driverCaller, driverWorker},
	driverCaller: {driverHolder, driverWorker, driverNone},
	driverHolder: {driverCaller, driverKeeper, driverWorker, driverNone},
	driverKeeper: {driverWorker, driverNone},
	driverWorker: {driverHolder, driverKeeper, driverNone},
}}

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

// Ownerships are the legal edges between the states of an ownership. It is held at first:
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
var Ownerships = states.Table[ownershipState]{Of: "ownership", Edges: map[ownershipState][]ownershipState{
	held:       {kept, converting, releasing, lost},
	kept:       {held, releasing, lost},
	converting: {held, releasing, lost},
	releasing:  {gone, uncertain},
	lost:       {gone, uncertain},
}}

// admissionState decides what may begin.
type admissionState int

const (
	open     admissionState = iota
	draining                // no call enters, and nothing is kept or left idle
	closed                  // nothing begins
)

func (a admissionState) String() string { return [...]string{"open", "draining", "closed"}[a] }

// Admissions are the legal edges between admissions. A table is open at first:
//
//	from      to        when
//	open      draining  the first of several calls of Drain has begun
//	draining  open      the last of them has failed
//	draining  closed    nothing is pending: a Drain has succeeded
//	any       closed    the session has ended
var Admissions = states.Table[admissionState]{Of: "lock manager", Edges: map[admissionState][]admissionState{
	open:     {draining, closed},
	draining: {open, closed},
}}
