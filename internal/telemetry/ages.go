package telemetry

import (
	"context"
	"sync"
	"time"
)

// Ages knows since when each call waits and each hold lasts. A kind is what the labels of both are made
// of.
type Ages[K comparable] struct {
	mu    sync.Mutex // guards all below, and the fields of each age
	calls map[*age[K]]bool
	holds map[*age[K]]bool
	kinds map[K]*past // of all kinds that were seen
}

// age is a call, and then its hold.
type age[K comparable] struct {
	kind  K
	since time.Time
	ended bool // true: the call has failed, or the hold has ended
}

// past has the durations of the calls and holds of a kind that have ended.
type past struct{ calls, holds Recent }

// Times are those of one kind.
type Times struct {
	OldestCall, OldestHold   time.Duration // of those under way; 0 if there is none
	LongestCall, LongestHold time.Duration // of those that have ended in the last minute or two; 0 if there is none
}

// ageKey finds the age of a call in its context.
type ageKey[K comparable] struct{ of *Ages[K] }

// NewAges returns ages without calls and holds.
func NewAges[K comparable]() *Ages[K] {
	return &Ages[K]{calls: make(map[*age[K]]bool), holds: make(map[*age[K]]bool), kinds: make(map[K]*past)}
}

// Begin notes a call, and returns its context.
func (a *Ages[K]) Begin(ctx context.Context, kind K) context.Context {
	c := &age[K]{kind: kind, since: time.Now()}
	a.mu.Lock()
	a.calls[c] = true
	if a.kinds[kind] == nil {
		a.kinds[kind] = &past{}
	}
	a.mu.Unlock()
	return context.WithValue(ctx, ageKey[K]{a}, c)
}

// Granted turns a call into a hold.
func (a *Ages[K]) Granted(ctx context.Context) {
	a.change(ctx, func(c *age[K]) {
		if !c.ended { // a loss can be reported before the grant
			c.since = time.Now()
			a.holds[c] = true
		}
	})
}

// End forgets a call that has failed, or a hold.
func (a *Ages[K]) End(ctx context.Context) {
	a.change(ctx, func(c *age[K]) {
		if a.holds[c] {
			a.kinds[c.kind].holds.Add(time.Since(c.since), time.Now())
		}
		delete(a.holds, c)
		c.ended = true
	})
}

// change ends the call of a context, and then changes its age.
func (a *Ages[K]) change(ctx context.Context, change func(*age[K])) {
	c, ok := ctx.Value(ageKey[K]{a}).(*age[K])
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls[c] {
		a.kinds[c.kind].calls.Add(time.Since(c.since), time.Now())
	}
	delete(a.calls, c)
	change(c)
}

// Read returns the times of each kind that was seen. It takes time in proportion to the calls and holds.
func (a *Ages[K]) Read() map[K]Times {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[K]Times, len(a.kinds))
	for kind, p := range a.kinds {
		var t Times
		_, t.LongestCall, _ = p.calls.Read(now)
		_, t.LongestHold, _ = p.holds.Read(now)
		all[kind] = t
	}
	for c := range a.calls {
		t := all[c.kind]
		t.OldestCall = max(t.OldestCall, now.Sub(c.since))
		all[c.kind] = t
	}
	for c := range a.holds {
		t := all[c.kind]
		t.OldestHold = max(t.OldestHold, now.Sub(c.since))
		all[c.kind] = t
	}
	return all
}
