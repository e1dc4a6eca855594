package etcdlock

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// record is the part of a waiting entry that names the holds of its waiter. Other processes look for
// deadlocks by this part, and fail their waits, so it must not name a hold that has ended. The entry
// is written again when the waiter releases a hold, and when its place goes to the next waiter of the
// local queue. A key is not handed over in memory while an entry names its former holder.
type record struct {
	mu      sync.Mutex
	holds   []*hold // that the entry may name
	stale   bool
	disturb context.CancelCauseFunc // ends the wait, so that the entry is written again
}

// errOutdated ends a wait whose entry must be written again.
var errOutdated = errors.New("what the entry says is outdated")

// speaksOf sets the waiter for which the entry is written from now on.
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

// end notes that the entry waits no longer.
func (r *record) end() { r.speaksOf(&waiter{}) }

// of notes in the turn of a hold whether the record may name the hold.
func (r *record) of(h *hold, speaks bool) {
	m := h.tenure.line.manager // may differ from the waiter's manager
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

// outdated makes the waiter write its entry again.
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
