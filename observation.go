package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/queue"
)

// observation follows one queue for all observers of its name. It ends with its last
// observer.
//
// It keeps the latest changes and not the first ones: an observer has the number of the
// change that it is told next, and holds no reference to a change.
type observation struct {
	session *Session
	name    string
	stop    context.CancelCauseFunc

	// Guarded by session.mu.
	observers int
	changes   []queue.Head  // the latest ones, oldest first
	passed    int           // number of changes that were dropped from the front of changes
	size      int           // sum of the sizes of changes, in bytes
	latest    queue.Head    // last reading, with or without a change; Rev is 0 before the first
	err       error         // why no change will follow; nil while the observation goes on
	news      chan struct{} // closed and replaced when anything above changes
}

const (
	// mostChanges and mostBytes bound what an observation keeps for observers that are slow. At
	// least one change is kept, whatever its size.
	mostChanges = 256
	mostBytes   = 4 << 20
)

// observe tells who leads until tell returns false (nil), ctx ends or there is a reason
// not to go on.
func (s *Session) observe(ctx context.Context, name string, tell func(Leader) bool) error {
	o, next, shared, err := s.joinObservation(name)
	if err != nil {
		return err
	}
	defer o.leave()

	var told *queue.Head
	if shared {
		// Others observe already. What they saw last may be out of date by now, as when
		// etcd is out of reach: a newcomer is told what is so now (trap B9).
		within, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.ctx, func() { cancel(s.Err()) })()
		now, err := s.queues.Queue(name).AwaitFirst(within)
		if err != nil {
			return err
		}
		now = s.judge(within, now)
		if ctx.Err() != nil || !tell(newLeader(now)) {
			return nil
		}
		told = &now
	}
	for {
		head, news, err := o.after(&next, told)
		switch {
		case ctx.Err() != nil:
			return nil
		case head != nil:
			if !tell(newLeader(*head)) {
				return nil
			}
			told = head
			continue
		case err != nil:
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// after returns what an observer is told after told, and moves next past it. It returns
// nil if there is nothing yet, and then a channel that is closed when there may be, or
// the reason why nothing will follow.
func (o *observation) after(next *int, told *queue.Head) (head *queue.Head, news <-chan struct{}, err error) {
	o.session.mu.Lock()
	defer o.session.mu.Unlock()
	for *next = max(*next, o.passed); *next-o.passed < len(o.changes); {
		h := o.changes[*next-o.passed]
		*next++
		if h.News(told) {
			return &h, nil, nil
		}
	}
	// The observer may have read a head by itself that is over by now, and that the observation
	// never saw.
	if h := o.latest; h.Rev > 0 && h.News(told) {
		return &h, nil, nil
	}
	return nil, o.news, o.err
}

// joinObservation returns the observation of a name, and the number of the change that the
// newcomer is told next. shared says that it had observers before.
func (s *Session) joinObservation(name string) (o *observation, next int, shared bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.state == StateClosed {
		return nil, 0, false, ErrSessionClosed
	}
	o = s.observations[name]
	shared = o != nil && o.latest.Rev > 0
	if o == nil {
		o = &observation{session: s, name: name, news: make(chan struct{})}
		var ctx context.Context
		ctx, o.stop = context.WithCancelCause(s.ctx)
		s.observations[name] = o
		s.tasks.Go(func() { o.run(ctx) })
	}
	o.observers++
	return o, o.passed + len(o.changes), shared, nil
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

// end takes the observation out of the session: the next observer begins another one.
// Called with session.mu held.
func (o *observation) end() {
	if o.session.observations[o.name] == o {
		delete(o.session.observations, o.name)
	}
}

// run follows the queue.
func (o *observation) run(ctx context.Context) {
	err := o.session.queues.Queue(o.name).FollowReadings(ctx, func(head queue.Head) bool {
		o.see(o.session.judge(ctx, head))
		return true
	})
	o.session.mu.Lock()
	defer o.session.mu.Unlock()
	o.end()
	o.err = err
	o.announce()
}

// see takes in a reading.
func (o *observation) see(head queue.Head) {
	o.session.mu.Lock()
	defer o.session.mu.Unlock()
	changed := o.latest.Rev == 0 || !head.Same(o.latest)
	o.latest = head
	if changed {
		o.changes = append(o.changes, head)
		o.size += head.Size()
		for len(o.changes) > 1 && (len(o.changes) > mostChanges || o.size > mostBytes) {
			o.size -= o.changes[0].Size()
			o.changes[0] = queue.Head{} // its value goes before the array does
			o.changes = o.changes[1:]
			o.passed++
		}
	}
	o.announce()
}

// announce wakes the observers. Called with session.mu held.
func (o *observation) announce() {
	close(o.news)
	o.news = make(chan struct{})
}
