package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// observation is the one following of a queue that all observers of a name share. It
// goes on while there are any.
//
// What it finds is a chain that only grows: each observer is somewhere on it, and whoever
// is slow holds the rest of it in memory until he has come to it.
type observation struct {
	session   *Session
	name      string
	stop      context.CancelCauseFunc
	observers int       // guarded by session.mu
	last      *sighting // guarded by session.mu
	begin     *sighting // the empty one before the first
}

// sighting is what was seen at one time, and leads to what was seen next.
type sighting struct {
	head queue.Head
	err  error         // the last one: why there is no more
	next *sighting     // set before over is closed
	over chan struct{} // closed when there is a next
}

// observe tells who leads until tell returns false (nil), ctx ends or there is a reason
// not to go on.
func (s *Session) observe(ctx context.Context, name string, tell func(Leader) bool) error {
	o, at, err := s.joinObservation(name)
	if err != nil {
		return err
	}
	defer o.leave()

	var told *queue.Head
	if at != o.begin {
		// Others observe already. What they saw last may be out of date by now, as when
		// etcd is out of reach: who comes new is told what is so now (trap B9).
		within, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.ctx, func() { cancel(s.Err()) })()
		now, err := s.queue(name).AwaitFirst(within)
		if err != nil {
			return err
		}
		if ctx.Err() != nil || !tell(newLeader(now)) {
			return nil
		}
		told = &now
	}
	for {
		select {
		case <-at.over:
		case <-ctx.Done():
			return nil
		}
		at = at.next
		switch {
		case ctx.Err() != nil:
			return nil
		case at.err != nil:
			return at.err
		case told != nil && (at.head.Rev <= told.Rev || at.head.Same(*told)):
			continue
		}
		if !tell(newLeader(at.head)) {
			return nil
		}
		told = &at.head
	}
}

// joinObservation returns the observation of a name, and where on it the newcomer is:
// right behind the last sighting.
func (s *Session) joinObservation(name string) (*observation, *sighting, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.state == Closed {
		return nil, nil, ErrSessionClosed
	}
	o := s.observations[name]
	if o == nil {
		o = &observation{session: s, name: name, begin: &sighting{over: make(chan struct{})}}
		o.last = o.begin
		var ctx context.Context
		ctx, o.stop = context.WithCancelCause(s.ctx)
		s.observations[name] = o
		s.tasks.Go(func() { o.run(ctx) })
	}
	o.observers++
	return o, o.last, nil
}

// leave ends the observation with its last observer.
func (o *observation) leave() {
	o.session.mu.Lock()
	defer o.session.mu.Unlock()
	if o.observers--; o.observers == 0 {
		o.end()
		o.stop(nil)
	}
}

// end takes the observation out of the session: who comes from now on begins another
// one. Called with session.mu held.
func (o *observation) end() {
	if o.session.observations[o.name] == o {
		delete(o.session.observations, o.name)
	}
}

// run follows the queue.
func (o *observation) run(ctx context.Context) {
	err := o.session.queue(o.name).FollowReadings(ctx, func(head queue.Head) bool {
		o.see(&sighting{head: head, over: make(chan struct{})})
		return true
	})
	o.session.mu.Lock()
	o.end()
	o.session.mu.Unlock()
	o.see(&sighting{err: err, over: make(chan struct{})})
}

// see puts a sighting at the end of the chain.
func (o *observation) see(next *sighting) {
	o.session.mu.Lock()
	defer o.session.mu.Unlock()
	last := o.last
	last.next, o.last = next, next
	close(last.over)
}
