package concurrency

import (
	"context"
	"sync"
)

// shared has the holds of a session by name, for the handles that share them. The zero value is empty.
type shared[H comparable] struct {
	mu    sync.Mutex
	slots map[string]*slot[H]
}

// slot is one name. It exists while there is a holder or a waiter.
type slot[H comparable] struct {
	held    H // the zero value if there is none
	waiting int
	granted context.Context // ends at the next grant
	grant   context.CancelFunc
}

// hold is a hold that can be shared.
type hold interface {
	comparable
	Err() error
}

// live returns the session's hold of a name.
func live[H hold](r *shared[H], name string) (held H, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sl := r.slots[name]; sl != nil {
		held = sl.held
	}
	var none H
	return held, held != none && held.Err() == nil
}

// join waits until the session holds the name, by the acquire of this caller or of another caller of
// the session, whichever succeeds first. Each caller waits in the queue, so that the end of one wait
// does not cost the others the session's place (trap A3).
func join[H hold](ctx context.Context, r *shared[H], name string, acquire func(context.Context) (H, error)) (h H, joined bool, err error) {
	granted := r.enter(name)
	defer func() { r.leave(name) }()
	for {
		if h, ok := live(r, name); ok {
			return h, true, nil
		}
		wait, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(granted, cancel)
		h, err := acquire(wait)
		stop()
		cancel()
		if err == nil {
			r.put(name, h)
			return h, false, nil
		}
		if ctx.Err() != nil || granted.Err() == nil {
			return h, false, err
		}
		granted = r.next(name) //nolint:fatcontext // the next context, not a child of the last one
	}
}

// slot returns the slot of a name. Called with mu held.
func (r *shared[H]) slot(name string) *slot[H] {
	sl := r.slots[name]
	if sl == nil {
		if r.slots == nil {
			r.slots = make(map[string]*slot[H])
		}
		sl = &slot[H]{}
		sl.granted, sl.grant = context.WithCancel(context.Background())
		r.slots[name] = sl
	}
	return sl
}

// tidy drops a slot without a holder and a waiter. Called with mu held.
func (r *shared[H]) tidy(name string, sl *slot[H]) {
	var none H
	if sl.held == none && sl.waiting == 0 {
		sl.grant()
		delete(r.slots, name)
	}
}

func (r *shared[H]) enter(name string) (granted context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sl := r.slot(name)
	sl.waiting++
	return sl.granted
}

// next returns the context that ends with the next grant.
func (r *shared[H]) next(name string) (granted context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slot(name).granted
}

func (r *shared[H]) leave(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sl := r.slot(name)
	sl.waiting--
	r.tidy(name, sl)
}

// put records a hold of the session, and wakes its waiters.
func (r *shared[H]) put(name string, h H) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sl := r.slot(name)
	sl.held = h
	sl.grant()
	sl.granted, sl.grant = context.WithCancel(context.Background())
}

// drop forgets a hold, unless there is a newer one.
func (r *shared[H]) drop(name string, h H) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sl := r.slots[name]; sl != nil && sl.held == h {
		var none H
		sl.held = none
		r.tidy(name, sl)
	}
}
