package lockmgr

import "time"

// Retention keeps the key of an ownership without a holder, for the next caller of the session.

// mayKeep tells whether the key may be kept once h, the last hold, has ended. Called with Manager.mu
// held.
func (t *ownership) mayKeep(h *Hold) bool {
	m := t.local.manager
	return h.terms.Retention > 0 && !t.local.private() && !t.contended && !m.suspended && m.admission == open
}

// keep leaves the key where it is for the next caller of the session, for as long as retention,
// unless another session wants it. Called with Manager.mu held.
func (t *ownership) keep(retention time.Duration) {
	running := t.running && retention >= t.retention // it looks at idle when it fires
	t.become(kept)
	t.idle, t.retention, t.running = t.local.manager.now(), retention, true
	switch {
	case t.timer == nil:
		t.timer = time.AfterFunc(retention, t.expire)
		t.retained.Set()
		t.listen() // for other sessions, from now on
	case !running:
		t.timer.Reset(retention)
	}
}

// expire gives up a key that was kept for long enough.
func (t *ownership) expire() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	switch left := t.retention - (m.now() - t.idle); {
	case t.state != kept:
		t.running = false
	case left > 0:
		t.timer.Reset(left)
	default:
		t.end()
	}
}

// take gives w the kept key, without a request. It returns false if no key is kept, or if its value
// does not fit. Such a key is given up. Called with Manager.mu held.
func (t *ownership) take(w *waiter) (*Hold, bool) {
	if !t.open() || t.state != kept {
		return nil, false
	}
	if t.identity != w.Identity {
		t.end()
		return nil, false
	}
	t.become(held)
	t.began = t.local.manager.cfg.Clock() // no other session wanted it so far
	return t.newHolder(w, PathRetained), true
}

// Contended is called when another session has entered the queue, or asks for the lock. A kept key is
// given up at once, and a held one is not kept afterwards.
func (t *ownership) Contended() {
	m := t.local.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	t.contended = true
	t.giveUpKept()
}

// giveUpKept gives up a kept key. Called with Manager.mu held.
func (t *ownership) giveUpKept() {
	if t != nil && t.state == kept {
		t.end()
	}
}
