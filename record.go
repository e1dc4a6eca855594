package etcdlock

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// record is what an entry that waits in etcd says about what its waiter holds meanwhile.
// Others look for deadlocks by it, and fail for it; so it must not go on saying what is no
// longer so: when he lets go of something, or gives up and leaves his place to another one
// of the local queue. Then it is written again. And a key is not handed over in memory while an
// entry says that its former holder has it.
type record struct {
	mu      sync.Mutex
	holds   []*hold // that it may speak of
	stale   bool
	disturb context.CancelCauseFunc // ends the wait, to write again
}

// errOutdated ends a wait, for the entry to be written again.
var errOutdated = errors.New("what the entry says is outdated")

// speaksOf takes note of whom the entry is written for, from now on.
func (r *record) speaksOf(w *waiter) {
	r.mu.Lock()
	before := r.holds
	r.holds, r.stale = nil, false
	if before == nil && w.carried == nil {
		r.mu.Unlock()
		return
	}
	for c := w.carried; c != nil; c = c.outer {
		r.holds = append(r.holds, c.hold)
	}
	now := r.holds
	r.mu.Unlock()
	for _, h := range now {
		r.of(h, true)
	}
	for _, h := range before {
		if !slices.ContainsFunc(now, func(o *hold) bool { return o.turn == h.turn }) {
			r.of(h, false)
		}
	}
}

// end takes note that the entry waits no longer.
func (r *record) end() { r.speaksOf(&waiter{}) }

// of tells the turn of a hold whether the record may speak of it.
func (r *record) of(h *hold, speaks bool) {
	m := h.tenure.line.manager // not always that of the waiter
	m.mu.Lock()
	defer m.mu.Unlock()
	switch t := h.turn; {
	case !speaks:
		delete(t.recorded, r)
	case t.recorded == nil:
		t.recorded = map[*record]struct{}{r: {}}
	default:
		t.recorded[r] = struct{}{}
	}
}

// outdated tells that what the entry says is no longer so.
func (r *record) outdated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = true
	if r.disturb != nil {
		r.disturb(errOutdated)
	}
}

// wait returns a context that ends with ctx, and when the record is outdated.
func (r *record) wait(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale {
		cancel(errOutdated)
	}
	r.disturb = cancel
	return ctx, cancel
}
