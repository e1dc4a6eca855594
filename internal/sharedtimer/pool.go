package sharedtimer

import (
	"context"
	"sync"
)

// Pool has contexts that bound requests. Each ends after the duration of a timer queue, with its
// caller's context, or with a common context, which is its parent. A context that was not cancelled
// is reused for the next request, because most requests are short and sequential.
type Pool struct {
	timers *Queue

	mu     sync.Mutex
	common context.Context
	idle   []*Pooled // all of them are children of common
}

// mostIdle is the number of contexts that are kept. It is about the number of concurrent requests of
// a busy client.
const mostIdle = 256

// NewPool returns a pool of contexts with the duration of a timer queue.
func NewPool(timers *Queue) *Pool { return &Pool{timers: timers} }

// Pooled is the context of one request at a time.
type Pooled struct {
	Timer
	Once   bool // true if it is not reused, as for a client that may hang something on the context
	of     *Pool
	ctx    context.Context
	cancel context.CancelFunc
	common context.Context
	stop   func() bool // stops listening to the caller's context
}

// Take returns the context of a request, which ends with the common context or with the caller's,
// and the handle by which it is to be released when the request has returned.
func (p *Pool) Take(common, caller context.Context) (context.Context, *Pooled) {
	c := p.take(common)
	if c == nil {
		c = &Pooled{of: p, common: common}
		c.ctx, c.cancel = context.WithCancel(common)
	}
	if caller.Done() != nil {
		c.stop = context.AfterFunc(caller, c.cancel)
	}
	p.timers.Set(&c.Timer, c)
	return &requestContext{c.ctx, caller}, c
}

// requestContext has no deadline, see [Queue.Context], and the values of the caller's context, as
// of a trace.
type requestContext struct {
	context.Context
	caller context.Context
}

func (c *requestContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.caller.Value(key)
}

// Release ends the request's use of the context. A context that was not cancelled is kept for the next
// request. A goroutine of the request that still waits for the context would end only with the common
// context.
func (c *Pooled) Release() {
	reusable := c.Stop()
	if c.stop != nil {
		reusable = c.stop() && reusable
		c.stop = nil // it refers to the caller's context and all its values
	}
	if !reusable || c.Once || !c.of.put(c) {
		c.cancel()
	}
}

// Fire cancels the context.
func (c *Pooled) Fire() { c.cancel() }

func (p *Pool) take(common context.Context) *Pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.common != common {
		p.drop()
		p.common = common
	}
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

func (p *Pool) put(c *Pooled) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.common != p.common || c.ctx.Err() != nil || len(p.idle) >= mostIdle {
		return false
	}
	p.idle = append(p.idle, c)
	return true
}

// drop cancels the idle contexts of another parent. Called with mu held.
func (p *Pool) drop() {
	for _, c := range p.idle {
		c.cancel()
	}
	clear(p.idle)
	p.idle = p.idle[:0]
}
