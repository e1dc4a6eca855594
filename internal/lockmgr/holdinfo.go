package lockmgr

import (
	"context"
	"slices"
	"sync"
)

// holdInfo is the part of a waiting entry that names the holds of its waiter. Other processes look for
// deadlocks by this part, and fail their waits, so it must not name a hold that has ended. The entry
// is written again when the waiter releases a hold, and when its place goes to the next waiter of the
// local queue. A key is not handed over in memory while an entry names its former holder.
type holdInfo struct {
	mu      sync.Mutex
	holds   []*Hold // that the entry may name
	stale   bool
	disturb context.CancelCauseFunc // ends the wait, so that the entry is written again
}

// speaksOf sets the waiter for which the entry is written from now on.
func (r *holdInfo) speaksOf(w *waiter) {
	r.mu.Lock()
	before := r.holds
	r.holds, r.stale = nil, false
	if before == nil && w.Carried == nil {
		r.mu.Unlock()
		return
	}
	for c := w.Carried; c != nil; c = c.outer {
		r.holds = append(r.holds, c.hold)
	}
	now := r.holds
	r.mu.Unlock()
	for _, h := range now {
		r.of(h, true)
	}
	for _, h := range before {
		if !slices.ContainsFunc(now, func(o *Hold) bool { return o.holder == h.holder }) {
			r.of(h, false)
		}
	}
}

// end notes that the entry waits no longer.
func (r *holdInfo) end() { r.speaksOf(&waiter{}) }

// of notes in the holder of a hold whether the entry may name the hold.
func (r *holdInfo) of(h *Hold, speaks bool) {
	m := h.owned.local.manager // may differ from the manager of the waiter
	m.mu.Lock()
	defer m.mu.Unlock()
	switch t := h.holder; {
	case !speaks:
		delete(t.infos, r)
	case t.infos == nil:
		t.infos = map[*holdInfo]struct{}{r: {}}
	default:
		t.infos[r] = struct{}{}
	}
}

// outdated makes the waiter write its entry again.
func (r *holdInfo) outdated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = true
	if r.disturb != nil {
		r.disturb(errOutdated)
	}
}

// wait returns a context that ends with ctx, and when the record is outdated.
func (r *holdInfo) wait(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale {
		cancel(errOutdated)
	}
	r.disturb = cancel
	return ctx, cancel
}
