package etcdlock

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/notify"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// callHooks are the hooks of a tracer for calls and their holds. A hook is nil if no trace has it.
type callHooks struct {
	acquireStart func(context.Context, AcquireStartInfo) context.Context
	traceparent  func(context.Context) string
	queued       func(context.Context, QueuedInfo)
	acquireEnd   func(context.Context, AcquireEndInfo)
	deadlock     func(context.Context, DeadlockInfo)
	holdEnd      func(context.Context, HoldEndInfo)
	releaseEnd   func(context.Context, ReleaseEndInfo)
	asked        func(context.Context, AskedInfo)

	later *notify.Queue
	clock func() time.Duration // goes on while the machine sleeps
}

// call calls a hook, if there is one.
func call[I any](ctx context.Context, hook func(context.Context, I), info I) {
	if hook != nil {
		hook(ctx, info)
	}
}

// tracedCall is a call that acquires, of a session with a tracer. Its methods do nothing for nil.
type tracedCall struct {
	hooks *callHooks
	ctx   context.Context // that AcquireStart has returned
	info  AcquireStartInfo
	began time.Duration // by the session's clock
}

// start reports the start of a call, and returns its context.
func (h *callHooks) start(ctx context.Context, info AcquireStartInfo) (*tracedCall, context.Context) {
	info.Names = slices.Clone(info.Names) // a hook may keep or change them
	c := &tracedCall{hooks: h, ctx: ctx, info: info, began: h.clock()}
	if h.acquireStart != nil {
		c.ctx = h.acquireStart(ctx, info)
	}
	return c, c.ctx
}

// ask completes the request of the call: the trace in its key, and a function to call if it has to wait.
func (c *tracedCall) ask(of *local.Call) {
	if c == nil {
		return
	}
	if c.hooks.traceparent != nil {
		of.Trace = c.hooks.traceparent(c.ctx)
	}
	if c.hooks.queued != nil {
		of.Waiting = local.NewWaiting(func(ahead int) { c.hooks.queued(c.ctx, QueuedInfo{c.info, ahead}) })
	}
}

// behind is the traceparent of the entry that was in the way of the call last.
func behind(of *lockmgr.Hold, err error) string {
	var locked *LockedError
	switch {
	case errors.As(err, &locked):
		return locked.Holder.Traceparent
	case err != nil || of.Path() != local.PathQueued:
		return ""
	}
	o := of.Entry().Obstacle()
	if o.KV == nil || !o.Whole {
		return ""
	}
	h, _ := wire.ReadHolder(o.KV.Value)
	return h.Trace
}

// end reports the end of the call, with a hold or an error, and returns the traced hold.
func (c *tracedCall) end(of *lockmgr.Hold, err error) *tracedHold {
	if c == nil {
		return nil
	}
	info := AcquireEndInfo{AcquireStartInfo: c.info, Err: err, Waited: c.hooks.clock() - c.began, Behind: behind(of, err)}
	if err != nil {
		if errors.Is(err, ErrDeadlock) {
			d := DeadlockInfo{AcquireStartInfo: c.info}
			_ = errors.As(err, &d.Err)
			call(c.ctx, c.hooks.deadlock, d)
		}
		call(c.ctx, c.hooks.acquireEnd, info)
		return nil
	}
	h := newTracedHold(c, of)
	info.Path, info.Hold = Path(of.Path())+PathFree, h.info
	returned := false
	defer func() {
		if !returned { // the hook has panicked, or ended this goroutine
			of.Abandon()
		}
	}()
	call(c.ctx, c.hooks.acquireEnd, info)
	returned = true
	return h
}

// convert reports the start of a call that makes the hold one of another kind. ended is to be called
// when it has, or has failed.
func (h *tracedHold) convert(ctx context.Context, kind Kind) (c *tracedCall, in context.Context, ended func()) {
	if h == nil {
		return nil, ctx, func() {}
	}
	c, in = h.hooks.start(ctx, AcquireStartInfo{Kind: kind, Name: h.info.Name})
	end := h.claim()
	return c, in, func() { end(h.lasted()) }
}

// tracedHold is a hold of a session with a tracer.
type tracedHold struct {
	hooks *callHooks
	ctx   context.Context // that of the call that has acquired
	of    *lockmgr.Hold
	info  HoldInfo
	began time.Duration               // by the session's clock
	unset atomic.Pointer[func() bool] // stops waiting for the end of the hold

	honours bool // true: a Run reports the requests to release the hold; set before the work begins
}

func newTracedHold(c *tracedCall, of *lockmgr.Hold) *tracedHold {
	entry := of.Entry()
	if c.info.Names != nil {
		entry = of.EntryOf(c.info.Name)
	}
	h := &tracedHold{hooks: c.hooks, ctx: c.ctx, of: of, began: of.Now(), info: HoldInfo{
		Kind: c.info.Kind, Name: c.info.Name, Names: c.info.Names, Key: entry.Key,
		Token: of.Token(), CreateRevision: entry.CreateRevision, Lease: entry.Lease, Since: time.Now(),
	}}
	h.await()
	return h
}

// await has the end of the hold reported when its context ends.
func (h *tracedHold) await() {
	if h.hooks.holdEnd == nil {
		return
	}
	stop := context.AfterFunc(h.of.Context(), func() { h.report(h.lasted()) })
	h.unset.Store(&stop)
}

// claim leaves it to the caller to report the end of the hold, by ended, after a call that was made to
// end the hold.
func (h *tracedHold) claim() (ended func(held time.Duration)) {
	stop := h.unset.Load()
	if stop == nil || !(*stop)() {
		return func(time.Duration) {} // it is reported already
	}
	return func(held time.Duration) {
		if h.of.Err() == nil { // it goes on
			h.await()
		} else {
			h.report(held)
		}
	}
}

// lasted is how long the hold has lasted, or had when it was lost.
func (h *tracedHold) lasted() time.Duration { return max(h.of.Now()-h.began, 0) }

func (h *tracedHold) report(held time.Duration) {
	h.hooks.holdEnd(h.ctx, HoldEndInfo{Hold: h.info, Held: held, Cause: h.of.Err()})
}

// release reports a release. The end of the hold is reported once etcd has answered, so that no hook
// delays the next holder.
func (h *tracedHold) release(by func() error) error {
	began, held := h.hooks.clock(), h.lasted()
	ended := h.claim()
	err := by()
	took := h.hooks.clock() - began
	ended(held)
	call(h.ctx, h.hooks.releaseEnd, ReleaseEndInfo{Hold: h.info, Took: took, Err: err})
	return err
}

// asked reports a request to release the hold.
func (h *tracedHold) asked(r ReleaseRequest) {
	if h != nil && h.hooks.asked != nil {
		h.hooks.later.Put(func() { h.hooks.asked(h.ctx, AskedInfo{r}) })
	}
}
