// Package sharedtimer bounds requests, holds and pauses, which mostly end before their bound. A timer
// of the runtime for each of them would cost more than the rest of the work here, because setting one
// may wake a thread that sleeps in the kernel. So all bounds of one duration share a runtime timer.
package sharedtimer

import (
	"context"
	"sync"
	"time"
)

// Queue has timers that fire after a fixed duration. It needs no Close: when no timer is set, its
// runtime timer fires once more and is not set again.
type Queue struct {
	after time.Duration
	born  time.Time

	mu      sync.Mutex
	first   *Timer // the list is in the order of setting, and so of firing
	last    *Timer
	runtime *time.Timer // nil until it is first needed
	armed   bool        // true if runtime will fire, not later than first is due
}

// Timer can be set repeatedly. It is meant as a field of the struct that it bounds.
type Timer struct {
	queue *Queue

	// Guarded by queue.mu.
	callback   Callback      // nil unless the timer is set
	at         time.Duration // when it fires, since the birth of the queue
	prev, next *Timer
}

// Callback is what a timer is set for.
type Callback interface {
	// Fire is called when the time has passed. It must not block, as the next timer waits
	// for it.
	Fire()
}

// New returns a queue of timers that fire when after has passed.
func New(after time.Duration) *Queue { return &Queue{after: after, born: time.Now()} }

// Set sets a timer, which is not set.
func (q *Queue) Set(t *Timer, c Callback) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.queue, t.callback, t.at = q, c, time.Since(q.born)+q.after
	if t.prev = q.last; t.prev != nil {
		t.prev.next = t
	} else {
		q.first = t
	}
	q.last = t
	if !q.armed {
		q.arm(q.after)
	}
}

// Stop returns false if the timer is not set, or not any more. Its callback may then be running.
func (t *Timer) Stop() bool {
	if t.queue == nil {
		return false
	}
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	if t.callback == nil {
		return false
	}
	t.queue.remove(t)
	return true
}

// arm has the timer of the runtime fire. Called with mu held.
func (q *Queue) arm(in time.Duration) {
	q.armed = true
	if q.runtime == nil {
		q.runtime = time.AfterFunc(in, q.fire)
	} else {
		q.runtime.Reset(in)
	}
}

// remove takes a timer out of the list. Called with mu held.
func (q *Queue) remove(t *Timer) {
	t.callback = nil
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		q.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		q.last = t.prev
	}
	t.prev, t.next = nil, nil
}

// fire fires what is due, and arms the timer of the runtime for the rest.
func (q *Queue) fire() {
	for c := q.due(); c != nil; c = q.due() {
		c.Fire()
	}
}

// due takes out the first timer that is due, and returns its callback: while that runs the
// timer may be set again. If there is none it arms the timer of the runtime for the next one.
func (q *Queue) due() Callback {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.first
	if t == nil {
		q.armed = false
		return nil
	}
	if left := t.at - time.Since(q.born); left > 0 {
		q.arm(left)
		return nil
	}
	c := t.callback
	q.remove(t)
	return c
}

// Context returns a child of parent that is cancelled when the duration has passed. It has no
// deadline: gRPC would send that along, and have the server set a timer for it.
func (q *Queue) Context(parent context.Context) (context.Context, context.CancelFunc) {
	b := &bounded{}
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(parent)
	q.Set(&b.Timer, b)
	return ctx, b.end
}

type bounded struct {
	Timer
	cancel context.CancelFunc
}

func (b *bounded) Fire() { b.cancel() }

func (b *bounded) end() {
	b.Stop()
	b.cancel()
}
