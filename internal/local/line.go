package local

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Line is what a local queue is in etcd. Only its driver changes it.
type Line struct {
	one    [1]string    // the name, or the first of several
	Single *queue.Queue // sends the requests of a waiter; nil for several names, and while a hold lasts
	*private
}

// private is what a private local queue has beside that. It is nil for others.
type private struct {
	names []string
	slots []wire.Slot // those of the keys under the names
	set   *queue.Set  // sends the requests of the waiter; nil for one name
}

// Name is the name, or the first of several that are held at once.
func (l *Line) Name() string { return l.one[0] }

// Names are the one, or all that are held at once.
func (l *Line) Names() []string {
	if l.private != nil {
		return l.names
	}
	return l.one[:]
}

// Slots are those of the keys of a private local queue under the names.
func (l *Line) Slots() []wire.Slot {
	if l.private != nil {
		return l.slots
	}
	return nil
}

// Place sends the requests of a worker.
func (l *Line) Place() Place {
	if l.Several() {
		return l.set
	}
	return l.Single
}

// Several tells whether several names are held at once.
func (l *Line) Several() bool { return l.private != nil && l.set != nil }

// Use changes the slots of a private local queue to those of keys that stand. It has not entered yet.
func (l *Line) Use(slots []wire.Slot) {
	l.slots = slots
	if l.set != nil {
		l.set.Use(slots)
	}
}

// close ends what is kept between two calls, as a hold that lasts needs nothing of it.
func (l *Line) close() {
	if l.Single != nil {
		l.Single.Close()
		if l.Single.Posted() == clientv3.NoLease {
			l.Single = nil
		}
	}
}

// listens tells whether the watch that is kept between two calls has to be listened to.
func (l *Line) listens() bool { return l.Single != nil && l.Single.Viewed() }

// Place is a queue in etcd, or several that are entered at once.
type Place interface {
	Enter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	TryEnter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	Granted(context.Context, *queue.Entry) (granted bool, rev int64, err error)
	Await(context.Context, *queue.Entry) (rev int64, err error)
	Rest(wake <-chan struct{}) (woken bool)
	Close()
}
