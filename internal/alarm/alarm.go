// Package alarm is for what should end soon and mostly does: requests, holds, pauses. A
// timer for each of them costs more than the thing itself takes here, as setting one
// may wake a thread that sleeps in the kernel; so all that may take equally long share one.
package alarm

import (
	"context"
	"sync"
	"time"
)

// Clock has alarms that go off when a fixed time has passed. It needs no end: with no
// alarm set, its timer runs out once, and then there is none.
type Clock struct {
	after time.Duration

	mu    sync.Mutex
	first *Alarm // the list is in the order of setting, and so of going off
	last  *Alarm
	timer *time.Timer // nil until it is first needed
	armed bool        // it will fire; not later than first is due
}

// Alarm is one that can be set, again and again. It is made to be a part of what it is set
// for.
type Alarm struct {
	clock *Clock

	// Guarded by clock.mu.
	set        bool
	ringer     Ringer
	at         time.Time
	prev, next *Alarm
}

// Ringer is what an alarm is set for.
type Ringer interface {
	// Ring is called when the alarm goes off. It must not block, as the next one waits
	// for it.
	Ring()
}

// New makes a clock whose alarms go off when after has passed.
func New(after time.Duration) *Clock { return &Clock{after: after} }

// Set sets an alarm, which is not set.
func (c *Clock) Set(a *Alarm, r Ringer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.clock, a.set, a.ringer, a.at = c, true, r, time.Now().Add(c.after)
	if a.prev = c.last; a.prev != nil {
		a.prev.next = a
	} else {
		c.first = a
	}
	c.last = a
	if !c.armed {
		c.arm(c.after)
	}
}

// Stop is false if the alarm is not set any more; then it may be ringing at this very time.
func (a *Alarm) Stop() bool {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	if !a.set {
		return false
	}
	a.clock.remove(a)
	return true
}

// arm has the timer fire. Called with mu held.
func (c *Clock) arm(in time.Duration) {
	c.armed = true
	if c.timer == nil {
		c.timer = time.AfterFunc(in, c.ring)
	} else {
		c.timer.Reset(in)
	}
}

// remove takes an alarm out of the list. Called with mu held.
func (c *Clock) remove(a *Alarm) {
	a.set = false
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		c.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	} else {
		c.last = a.prev
	}
	a.prev, a.next = nil, nil
}

// ring sets off what is due, and sees to the timer for the rest.
func (c *Clock) ring() {
	for r := c.due(); r != nil; r = c.due() {
		r.Ring()
	}
}

// due takes out the first alarm that is due, and returns what it is set for: while that rings
// the alarm may be set again. If there is none it arms the timer for the next one.
func (c *Clock) due() Ringer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.first
	if a == nil {
		c.armed = false
		return nil
	}
	if left := time.Until(a.at); left > 0 {
		c.arm(left)
		return nil
	}
	c.remove(a)
	return a.ringer
}

// Context is a child of parent that is cancelled when the time has passed. It has no
// deadline: gRPC would send that along, and have the server set a timer for it.
func (c *Clock) Context(parent context.Context) (context.Context, context.CancelFunc) {
	b := &bounded{}
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(parent)
	c.Set(&b.Alarm, b)
	return ctx, b.end
}

type bounded struct {
	Alarm
	cancel context.CancelFunc
}

func (b *bounded) Ring() { b.cancel() }

func (b *bounded) end() {
	b.Stop()
	b.cancel()
}
