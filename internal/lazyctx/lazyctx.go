// Package lazyctx has contexts and channels that are made only when a caller asks for them. Most
// holds end before any caller asks. To make a context costs more than all other work of an
// uncontended lock.
package lazyctx

import (
	"context"
	"sync"
	"sync/atomic"
)

// Context is a lifetime that ends once, with the cause of Cancel or of its parent. The parent is set by
// Within, before first use.
type Context struct {
	outer context.Context       // the parent
	cause atomic.Pointer[error] // nil until the end is known here

	mu    sync.Mutex
	whole *Part // nil until a caller asks for it
	parts *Part // the first of the contexts that end with c
}

// Part is a context that ends with a Context, or before. It is a child of the parent of that Context, or of
// a branch of it, so that one step ends it with the parent: with many of them, two steps would take twice
// as long.
type Part struct {
	context.Context
	of     *Context
	cancel context.CancelCauseFunc
	next   *Part // guarded by of.mu
}

// New returns a Context that ends with parent at the latest.
func New(parent context.Context) *Context { return &Context{outer: parent} }

// Within makes c end with parent at the latest.
func (c *Context) Within(parent context.Context) { c.outer = parent }

// Cause returns why c has ended, or nil while it has not.
func (c *Context) Cause() error {
	if cause := c.cause.Load(); cause != nil {
		return *cause
	}
	if err := c.parentCause(); err != nil {
		return c.end(err)
	}
	return nil
}

// Cancel ends c. The first cause counts.
func (c *Context) Cancel(cause error) {
	if err := c.Cause(); err != nil {
		cause = err
	}
	cause = c.end(cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.whole != nil {
		c.whole.cancel(cause)
	}
	for ; c.parts != nil; c.parts = c.parts.next {
		c.parts.cancel(cause)
	}
}

// Part returns a context that ends with c, with the same cause, or with its own End.
func (c *Context) Part() *Part {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.child()
	p.next, c.parts = c.parts, p
	return p
}

// End ends a part before the whole.
func (p *Part) End(cause error) {
	p.cancel(cause)
	c := p.of
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := &c.parts; *at != nil; at = &(*at).next {
		if *at == p {
			*at = p.next
			return
		}
	}
}

// child returns a context that ends with the parent, and has ended if c has. Called with c.mu held.
func (c *Context) child() *Part {
	p := &Part{of: c}
	cause := c.cause.Load()
	if cause == nil {
		parent := c.outer
		if root, ok := parent.(*Root); ok {
			parent = root.branch()
		}
		p.Context, p.cancel = context.WithCancelCause(parent)
		return p
	}
	p.Context, p.cancel = context.WithCancelCause(context.WithoutCancel(c.outer)) // which may have ended since, for another cause
	p.cancel(*cause)
	return p
}

// Release frees what the context of c keeps, if there is one. Cause does not change. Nothing
// may depend on that context any more.
func (c *Context) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.whole != nil {
		c.whole.cancel(context.Canceled)
	}
}

// Context returns a context that ends with c, with the same cause.
func (c *Context) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.whole == nil {
		c.whole = c.child()
	}
	return c.whole.Context
}

// end notes the end, and returns the cause of the first end that was noted.
func (c *Context) end(cause error) error {
	c.cause.CompareAndSwap(nil, &cause)
	return *c.cause.Load()
}

func (c *Context) parentCause() error {
	if c.outer.Err() == nil {
		return nil // context.Cause would take the context's lock
	}
	return context.Cause(c.outer)
}
