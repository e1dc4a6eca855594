package simetcd

// An uptime tells whether a server runs. It is guarded by the server's mu.
type uptime struct {
	down    bool
	epoch   int       // counts the stops; a message of an earlier epoch is lost
	waiting []*waiter // callers that wait for the server to be back
}

// A waiter is a caller that waits for a stopped server.
type waiter struct {
	since int64
	back  chan struct{}
}

// stop begins a time without the server.
func (u *uptime) stop() {
	u.down = true
	u.epoch++
}

// await returns a channel that is closed when the server is back, nil if it runs.
func (u *uptime) await(now int64) <-chan struct{} {
	if !u.down {
		return nil
	}
	w := &waiter{since: now, back: make(chan struct{})}
	u.waiting = append(u.waiting, w)
	return w.back
}

// start ends a time without the server. The waiters are woken at successive instants, because chance would order waiters
// that wake at one instant. If the run is to be reproducible, waiters that came at one instant share one: their order was
// random before, and what they send next is staggered.
func (u *uptime) start(sched *schedule, reproducible bool) {
	u.down = false
	groups := make(map[int64][]*waiter)
	for _, w := range u.waiting {
		wake := func() {
			for _, w := range groups[w.since] {
				close(w.back)
			}
		}
		switch {
		case !reproducible:
			sched.at(0, func() { close(w.back) })
		case groups[w.since] == nil:
			sched.at(sched.now()+int64(mix(uint64(w.since))%maxStagger), wake)
		}
		groups[w.since] = append(groups[w.since], w)
	}
	u.waiting = nil
}
