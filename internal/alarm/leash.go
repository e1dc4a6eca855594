package alarm

import (
	"context"
	"sync"
)

// Leashes bound requests: each ends when the time of a clock has passed, when its caller's context
// ends, or with a context that all of them have in common. Each is a child of that one, and is used
// for the next request again if it was not cut: most requests are short, and one after the other.
type Leashes struct {
	clock *Clock

	mu     sync.Mutex
	common context.Context
	idle   []*Leash // all of them are children of common
}

// mostIdle is how many leashes are kept: as many as there are requests at a time where
// many are.
const mostIdle = 256

// NewLeashes makes leashes with the time of a clock.
func NewLeashes(clock *Clock) *Leashes { return &Leashes{clock: clock} }

// Leash is for one request at a time.
type Leash struct {
	Alarm
	Once   bool // it is cut when it is released, as who is asked may hang something on the context
	of     *Leashes
	ctx    context.Context
	cancel context.CancelFunc
	common context.Context
	stop   func() bool // listening to the caller's context
}

// Take returns a leash for a request, and the request's context, which ends with the common context
// or with the caller's. It is to be released when the request has returned.
func (s *Leashes) Take(common, caller context.Context) (context.Context, *Leash) {
	l := s.take(common)
	if l == nil {
		l = &Leash{of: s, common: common}
		l.ctx, l.cancel = context.WithCancel(common)
	}
	if caller.Done() != nil {
		l.stop = context.AfterFunc(caller, l.cancel)
	}
	s.clock.Set(&l.Alarm, l)
	return &leashed{l.ctx, caller}, l
}

// leashed is the context of one request. It has no deadline, see [Clock.Context], and the values of
// the caller's, as of a trace.
type leashed struct {
	context.Context
	caller context.Context
}

func (c *leashed) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.caller.Value(key)
}

// Release ends the request's use of the context. If nothing has cut that, it is not cut here either,
// but kept for the next request. So whatever the request has left hanging on it, which it should
// not, ends only with the common context.
func (l *Leash) Release() {
	whole := l.Stop()
	if l.stop != nil {
		whole = l.stop() && whole
		l.stop = nil // which keeps the caller's context, with all that is in it
	}
	if !whole || l.Once || !l.of.put(l) {
		l.cancel()
	}
}

// Ring cuts it.
func (l *Leash) Ring() { l.cancel() }

func (s *Leashes) take(common context.Context) *Leash {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.common != common {
		s.drop()
		s.common = common
	}
	last := len(s.idle) - 1
	if last < 0 {
		return nil
	}
	l := s.idle[last]
	s.idle[last] = nil
	s.idle = s.idle[:last]
	return l
}

func (s *Leashes) put(l *Leash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.common != s.common || l.ctx.Err() != nil || len(s.idle) >= mostIdle {
		return false
	}
	s.idle = append(s.idle, l)
	return true
}

// drop lets go of those that are children of another context. Called with mu held.
func (s *Leashes) drop() {
	for _, l := range s.idle {
		l.cancel()
	}
	clear(s.idle)
	s.idle = s.idle[:0]
}
