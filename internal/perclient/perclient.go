// Package perclient owns what belongs to an etcd client and not to a session: one stream of renewals
// and one stream of watches.
//
// A server, or a proxy in front of it, limits how many streams a connection may have. A stream for
// each session would use up that limit, and from then on every request of the client would hang.
// So the sessions of a client share their streams. The first session makes them, and the last one
// that leaves ends them. A session that hangs, is lost or closes ends its own renewals and watches
// only.
//
//	Renewals   one stream of renewals; another one takes its place when it hangs or breaks
//	watch.Watcher   one stream of watches; likewise
//
// A stream that hangs keeps the renewals that were sent on it: each answer counts, on whichever
// stream it comes, and counts from when its own request was sent.
package perclient

import (
	"context"
	"reflect"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/watch"
)

// Streams are what the sessions of one client share.
type Streams struct {
	Renewals *Renewals        // nil: renewals go by the client
	Watcher  clientv3.Watcher // a *watch.Watcher, or the client's own
	leave    []func()
}

// Join returns the streams of a client for one more session. on is what stands for the connection:
// sessions with the same one share the streams. leases and watches are what the streams are opened
// on; nil leaves renewals or watches to the client.
func Join(on any, leases pb.LeaseClient, watches pb.WatchClient, client *clientv3.Client) *Streams {
	s := &Streams{Watcher: client.Watcher}
	if leases != nil {
		r, leave := renewals.join(identity(on, leases), func(l *life) *Renewals { return newRenewals(l, leases) })
		s.Renewals, s.leave = r, append(s.leave, leave)
	}
	if watches != nil {
		w, leave := watchers.join(identity(on, watches), func(l *life) *watch.Watcher {
			return watch.New(l.ctx, client.Watcher, watches, l.spawn)
		})
		s.Watcher, s.leave = w, append(s.leave, leave)
	}
	return s
}

// identity is common to the sessions that share a stream: the connection, or its replacement.
func identity(on, remote any) any {
	switch {
	case on != nil:
		return on
	case reflect.TypeOf(remote).Comparable():
		return remote
	default:
		return new(byte) // equal to no other identity
	}
}

// Leave ends a session's use of the streams, once. When no session is left it blocks until their
// goroutines have ended, which they do at once.
func (s *Streams) Leave() {
	for _, leave := range s.leave {
		leave()
	}
	s.leave = nil
}

var (
	renewals shared[*Renewals]
	watchers shared[*watch.Watcher]
)

// shared has one value for each identity in use.
type shared[T any] struct {
	mu  sync.Mutex
	all map[any]*entry[T]
}

type entry[T any] struct {
	*life
	value T
	users int // guarded by the mu of shared
}

// join returns the value for an identity, which is made for its first user, and the function to be
// called when the user leaves.
func (s *shared[T]) join(id any, newValue func(*life) T) (value T, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.all[id]
	if e == nil {
		l := newLife()
		e = &entry[T]{life: l, value: newValue(l)}
		if s.all == nil {
			s.all = make(map[any]*entry[T])
		}
		s.all[id] = e
	}
	e.users++
	return e.value, func() { s.leave(id, e) }
}

func (s *shared[T]) leave(id any, e *entry[T]) {
	s.mu.Lock()
	e.users--
	last := e.users == 0
	if last {
		delete(s.all, id)
	}
	s.mu.Unlock()
	if last {
		e.end()
	}
}

// life is the lifetime of a shared value and its goroutines.
type life struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	over  bool
	tasks sync.WaitGroup
}

func newLife() *life {
	l := &life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// spawn starts a goroutine. It returns false after end.
func (l *life) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.tasks.Go(f)
	return true
}

// end ends the goroutines, and waits for them.
func (l *life) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.cancel()
	l.tasks.Wait()
}
