package sweeper

import (
	"container/heap"
	"time"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// schedule has a key swept after a pause. Called with s.mu held.
func (l *leased) schedule(d *doubt, after time.Duration) {
	d.due = time.Now().Add(after)
	if d.index == parked {
		heap.Push(&l.due, d)
	} else {
		heap.Fix(&l.due, d.index)
	}
	switch {
	case l.closed:
	case !l.running:
		l.running = true
		l.tasks.Go(l.sweep)
	case d.index == 0:
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// sweep sweeps the keys that are due. It returns when no key is due at any time, or the lease or the
// session has ended.
func (l *leased) sweep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // when a batch was sent
	for {
		l.mu.Lock()
		if len(l.due) == 0 || l.closed || l.lease.Context().Err() != nil {
			l.running = false
			l.mu.Unlock()
			return
		}
		wait := max(time.Until(l.due[0].due), time.Until(last.Add(pace)))
		var batch []*doubt
		if wait <= 0 {
			batch = l.takeDue()
		}
		l.mu.Unlock()
		if len(batch) > 0 {
			last = time.Now()
			l.sweepBatch(batch)
			if len(batch) == queue.MostSwept {
				last = time.Time{}
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-l.lease.Context().Done(): // which ends with the session too
		}
	}
}

// takeDue takes the keys that are due, with their slots, and no two of one name. Called with s.mu held.
func (l *leased) takeDue() (batch []*doubt) {
	now := time.Now()
	var again []*doubt
	taken := make(map[string]bool)
	for len(l.due) > 0 && len(batch) < queue.MostSwept && !l.due[0].due.After(now) {
		d := heap.Pop(&l.due).(*doubt)
		switch {
		case taken[d.name]:
			again = append(again, d)
		case d.slot != nil && !l.cfg.Names.Borrow(d.name, *d.slot):
			// Until Dropped.
		default:
			taken[d.name], d.sweeping = true, true
			batch = append(batch, d)
		}
	}
	for _, d := range again {
		heap.Push(&l.due, d)
	}
	return batch
}

// sweepBatch deletes what stands under some keys.
func (l *leased) sweepBatch(batch []*doubt) {
	began := time.Now()
	keys := make([]queue.Swept, len(batch))
	for i, d := range batch {
		keys[i] = queue.Swept{Name: d.name, Key: d.key}
	}
	err := l.cfg.Sweep(l.lease.Context(), keys)
	if err != nil && answer.Final(err) && len(batch) > 1 {
		// Because of one of them, as for want of permission, and etcd does not say which.
		for i := range keys {
			keys[i].Err = l.cfg.Sweep(l.lease.Context(), keys[i:i+1])
		}
	} else {
		for i := range keys {
			keys[i].Err = err
		}
	}
	l.mu.Lock()
	settled := false
	for i, d := range batch {
		was := d.watched
		l.wasSwept(d, &keys[i], began)
		settled = settled || d.watched && !was
	}
	l.mu.Unlock()
	if settled {
		l.cfg.Settled()
	}
}

// wasSwept notes the result of a sweep, and when it began. Called with s.mu held.
func (l *leased) wasSwept(d *doubt, of *queue.Swept, began time.Time) {
	if d.slot != nil {
		l.cfg.Names.GiveBack(d.name, *d.slot)
	}
	if l.over {
		return
	}
	d.sweeping = false
	if of.Deleted {
		l.hasten(d)
	}
	until := d.at.Add(LateEffect)
	switch {
	case of.Err == nil && (d.requests == 0 || of.Deleted && d.requests == 1) && !d.at.After(began):
		l.forget(d) // what was to come has come
		return
	case of.Err == nil && !began.Before(until):
		l.settle(d)
	}
	if d.index != parked {
		return // another doubt came meanwhile
	}
	next := d.pause
	switch now := time.Now(); {
	case d.watched && of.Err == nil:
		next = 0
		for _, late := range LateSweeps {
			if at := d.at.Add(late); next == 0 && at.After(now) {
				next = at.Sub(now)
			}
		}
		if next == 0 {
			l.forget(d)
			return
		}
	case now.Before(until):
		next = min(next, until.Sub(now))
	}
	d.pause = min(2*d.pause, LateEffect)
	if d.urgent > 0 && !d.watched {
		next = min(next, urgent)
	}
	l.schedule(d, next)
}

// hasten has the other keys of a transaction swept soon, as one of them was found. Called with s.mu held.
func (l *leased) hasten(d *doubt) {
	for _, o := range d.together {
		if o != d && l.keys[o.key] == o {
			o.pause = First
			if o.index != parked {
				l.schedule(o, 0)
			}
		}
	}
}

// forget ends the doubts about a key. Called with s.mu held.
func (l *leased) forget(d *doubt) {
	if d.index != parked {
		heap.Remove(&l.due, d.index)
	}
	l.settle(d)
	delete(l.keys, d.key)
	l.all.Remove(d.member)
}

// settle notes that no write of a key can come any more. Called with s.mu held.
func (l *leased) settle(d *doubt) {
	if !d.watched {
		d.watched = true
		l.cfg.Names.Use([]string{d.name}, -1)
	}
}
