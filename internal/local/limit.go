package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// limit bounds for how long a caller holds. It is nil for a hold without a bound. Its timer fires at the
// limit, and once more when the margin after it is over. The timer is stopped when the hold is given back,
// or when its ownership is lost.
type limit struct {
	most   time.Duration // that a call has set
	until  time.Duration // by the session's clock
	timer  *time.Timer
	unbind func() bool // the end of the ownership does not stop the timer any more

	over bool // true: the hold has ended by the limit, and is not given back yet; guarded by Hold.mu
}

// Limit has over called when the hold has lasted for most, and again when the margin after EndOverdue is
// over, unless the hold is given back or lost before; 0 is no bound. A hold within another one of its turn,
// which carried has, lasts no longer than that one.
func (h *Hold) Limit(most time.Duration, carried *Carried, over func()) {
	var l *limit
	if most > 0 {
		l = &limit{most: most, until: h.owned.clock() + most}
	}
	for c := carried; c != nil; c = c.outer {
		if of := c.hold.limit; c.hold.holder == h.holder && of != nil && (l == nil || of.until < l.until) {
			l = &limit{most: of.most, until: of.until}
		}
	}
	h.limited(l, over)
}

// GoOn has the limit of a hold go on for h, which has taken its place.
func (h *Hold) GoOn(of *Hold, over func()) {
	if l := of.limit; l != nil {
		h.limited(&limit{most: l.most, until: l.until}, over)
	}
}

func (h *Hold) limited(l *limit, over func()) {
	if l == nil {
		return
	}
	h.mu.Lock() // over and the end of the ownership wait until the timer is set
	defer h.mu.Unlock()
	h.limit = l
	l.timer = time.AfterFunc(l.until-h.owned.clock(), over)
	l.unbind = context.AfterFunc(h.OwnershipContext(), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		l.timer.Stop()
	})
}

// stop stops the timer. Called with Hold.mu held.
func (l *limit) stop() {
	if l != nil {
		l.timer.Stop()
		l.unbind()
	}
}

// EndOverdue ends a hold for its caller because it has reached its limit. What is held stays until the
// hold is given back, by Release. EndOverdue returns false if the hold had ended before.
func (h *Hold) EndOverdue() bool {
	_ = h.owned.lease.Err() // see Err
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.limit
	if !h.endBy(lockerr.Lost(fmt.Errorf("%w: %s, after %v: end the work sooner, or set a higher limit", lockerr.ErrHeldTooLong, h.owned.names(), l.most))) {
		return false
	}
	l.over = true
	l.timer.Reset(h.owned.lease.Margin())
	return true
}

// givenBack reports whether the hold had ended by its limit, and is given back now for the first time.
func (h *Hold) givenBack() bool {
	if h.limit == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit.stop()
	over := h.limit.over && h.owned.life.Cause() == nil // else it is lost
	h.limit.over = false
	return over
}

// Overdue reports whether the hold has ended by its limit. Its work may go on, so that the next holder
// needs a larger token.
func (h *Hold) Overdue() bool { return h.limit != nil && errors.Is(h.Ended(), lockerr.ErrHeldTooLong) }

// endBy ends the hold for its caller, for a cause. It returns false if the hold had ended before, for any
// reason: of two ends one comes first. The lease was looked at before. Called with mu held.
func (h *Hold) endBy(cause error) bool {
	if h.err != nil {
		return false
	}
	first := true
	if h.ctx != nil {
		h.ctx.End(cause)
		over := context.Cause(h.ctx)
		first, cause = over == cause, over //nolint:errorlint // the very cause
	} else if over := h.owned.life.Cause(); over != nil {
		first, cause = false, over
	}
	h.err = cause
	return first
}
