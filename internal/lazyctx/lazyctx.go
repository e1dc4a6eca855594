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

	mu     sync.Mutex
	ctx    context.Context // nil until a caller asks for it
	cancel context.CancelCauseFunc
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
	if c.cancel != nil {
		c.cancel(cause)
	}
}

// Release frees what the context of c keeps, if there is one. Cause does not change. Nothing
// may depend on that context any more.
func (c *Context) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(context.Canceled)
	}
}

// Context returns a context that ends with c, with the same cause.
func (c *Context) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		outer := c.outer
		cause := c.cause.Load()
		if cause != nil {
			outer = context.WithoutCancel(outer) // which may have ended since, for another cause
		}
		c.ctx, c.cancel = context.WithCancelCause(outer)
		if cause != nil {
			c.cancel(*cause)
		}
	}
	return c.ctx
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
