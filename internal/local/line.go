package local

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Line is what a local queue is in etcd. Only its driver changes it.
type Line struct {
	Name   string
	Names  []string     // the one, or all that are held at once
	one    [1]string    // Names of one name, so that they need no room of their own
	Slots  []wire.Slot  // of a private local queue: those of the keys under the names
	Place  Place        // sends the requests
	Single *queue.Queue // the same; nil for several names
}

// Place is a queue in etcd, or several that are entered at once.
type Place interface {
	Enter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	TryEnter(context.Context, queue.Want) (e *queue.Entry, unsure bool, err error)
	Granted(context.Context, *queue.Entry) (granted bool, rev int64, err error)
	Await(context.Context, *queue.Entry) (rev int64, err error)
	Guard(*queue.Keeper, *queue.Entry, queue.Owner) *queue.Guard
	Rewrite(ctx context.Context, e *queue.Entry, value string) error
	Leave(ctx context.Context, e *queue.Entry, tried bool) error
	LeaveOnce(context.Context, *queue.Entry) (deleted bool, err error)
	Rest(wake <-chan struct{}) (woken bool)
	Close()
}
