package queue

import (
	"container/heap"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Guard watches our own key in the place of the holder. A lease that is renewed proves nothing about
// the key (trap C12). It is a state machine that the goroutine of the keeper drives, and follows the
// rules of a follower.
//
// The watch starts from the key's creation, and needs no read: it reports what happened since within
// the 100 ms that etcd takes for a watch on the past. Once that past is compacted, or after the watch
// has ended, another one starts from now, and a reading follows.
type Guard struct {
	follower
	keeper *Keeper
	entry  *Entry
	owner  Owner
	next   *Guard // of the same entry in another queue; nil if it is the last one

	// Of the goroutine only.
	due     time.Duration // when the timer is due, by the keeper
	index   int32         // in the heap of the keeper
	turn    int32         // grows when a watch that is being opened becomes of no use
	asks    news          // why a reading is due: opened or due
	unread  bool          // true: it is to be read
	closed  bool          // true: its watch is to be opened
	broken  bool          // true: the watch that is being opened has ended
	keeping bool          // true: other entries are of interest
	over    bool
}

// Owner is what a guard reports to. Its methods are called by the goroutine of the keeper, and do not
// block. They may be called once more after Stop.
type Owner interface {
	Evicted()            // our key is gone
	Contended()          // after Keep: another entry is in the queue, or was a moment ago
	Unguarded(err error) // etcd refuses to let the session read its own key
}

// Settle is how long a hold lasts before our own key is watched. Most holds are shorter, and are
// spared the watch.
const Settle = 250 * time.Millisecond

// never is when a timer is due that is not set.
const never = time.Duration(math.MaxInt64)

// Guard begins to watch the keys of an entry, until Stop or the first report of Evicted or Unguarded. If a
// cache has granted the entry, and may not have reported the end of a key, a reading follows.
func (k *Keeper) Guard(e *Entry, byCache bool, o Owner) (g *Guard) {
	for _, part := range e.Parts() {
		from := part.CreateRevision + 1
		if byCache {
			from = 0
		}
		g = &Guard{keeper: k, entry: part, owner: o, next: g, due: never}
		r := holding.seeded(part.Lease)
		g.follower = follower{times: r.times, seed: r.seed, timer: (*guardTimer)(g)}
		k.add(g, from)
	}
	return g
}

// Keep has Contended called when another entry is in the queue: at least once, soon after that entry
// came, whether it came before or after.
func (g *Guard) Keep() {
	for ; g != nil; g = g.next {
		part := g
		part.keeper.post(func() {
			if !part.over && !part.keeping {
				part.keeping = true
				part.restart(0, 0)
			}
		})
	}
}

// Stop ends the guard. A nil guard has ended.
func (g *Guard) Stop() {
	for ; g != nil; g = g.next {
		g.keeper.post(g.end)
	}
}

// Heard is called when the watch reports events.
func (g *Guard) Heard(resp clientv3.WatchResponse) {
	g.keeper.post(func() { g.hear(resp) })
}

// Ended is called when the watch has ended.
func (g *Guard) Ended() {
	g.keeper.post(func() { g.broke() })
}

// The methods below are called by the goroutine of the keeper.

// guardTimer is the timer of a guard, which the keeper fires.
type guardTimer Guard

func (t *guardTimer) Reset(d time.Duration) bool { return t.set(t.keeper.now() + d) }
func (t *guardTimer) Stop() bool                 { return t.set(never) }

func (t *guardTimer) set(due time.Duration) bool {
	if !t.over {
		t.due = due
		heap.Fix(&t.keeper.guards, int(t.index))
	}
	return true
}

// reading returns the reading that is to be made.
func (g *Guard) reading() *reading {
	r := &reading{Guard: g, what: g.asks, of: g.handle}
	if g.keeping {
		r.others = 2
	}
	return r
}

// queue returns the range of all keys of the queue that our key is in.
func (g *Guard) queue() (from, end string) {
	return wire.Range(g.entry.name())
}

// fire does what the timer was set for.
func (g *Guard) fire() {
	g.timer.Stop()
	switch g.expired() {
	case silent:
		g.leave()
	case absent:
		g.lineUp()
	default:
		g.ask(due)
	}
}

// lineUp has the watch opened in its turn. While others hang that are opened before it, the key is
// read, as no watch reports its end.
func (g *Guard) lineUp() {
	if g.closed {
		g.ask(due)
		g.timer.Reset(waitResync)
		return
	}
	g.closed = true
	g.keeper.closed = append(g.keeper.closed, g)
	g.timer.Reset(firstResync)
}

// reads reports whether the timer is set for a reading.
func (g *Guard) reads() bool { return g.handle != nil && !g.late }

// ask has the key read.
func (g *Guard) ask(why news) {
	g.asks = why
	if !g.unread {
		g.unread = true
		g.keeper.unread = append(g.keeper.unread, g)
	}
}

// startOpening opens the watch in a job.
func (g *Guard) startOpening() {
	k, turn, from, keeping := g.keeper, g.turn, g.resume, g.keeping
	g.broken, g.closed = false, false
	g.timer.Stop()
	k.opening++
	k.working++
	k.jobs.Go(func() {
		began := time.Now()
		var w *watch
		if keeping {
			all, end := g.queue()
			w = k.openTo(k.life, g, all, clientv3.WithRange(end), clientv3.WithRev(from))
		} else {
			w = k.openTo(k.life, g, g.entry.Key, clientv3.WithFilterPut(), clientv3.WithRev(from))
		}
		k.post(func() {
			k.opening--
			k.working--
			g.opened(w, turn, began)
		})
	})
}

// opened takes in a watch that was opened; nil if it could not be.
func (g *Guard) opened(w *watch, turn int32, began time.Time) {
	if g.over || turn != g.turn {
		w.stop()
		return
	}
	if what := g.opens(w, began); what != told {
		g.ask(what)
	}
	if w == nil {
		return
	}
	if w.reports != nil {
		g.listen(w)
	} else if g.broken {
		g.broke()
	}
}

// listen listens to a watch by etcd's client, in a job.
func (g *Guard) listen(w *watch) {
	k := g.keeper
	k.working++
	k.jobs.Go(func() {
		for resp := range w.reports {
			if resp.Err() == nil {
				g.Heard(resp)
			}
		}
		k.post(func() {
			k.working--
			if g.handle == w.handle {
				g.broke()
			}
		})
	})
}

// broke takes in the end of the watch.
func (g *Guard) broke() {
	if g.handle == nil {
		g.broken = true
		return
	}
	g.heard(clientv3.WatchResponse{}, false)
}

// hear takes in what the watch reports.
func (g *Guard) hear(resp clientv3.WatchResponse) {
	if g.handle != nil {
		g.heard(resp, true)
	}
	switch {
	case g.over:
	case deleted(resp.Events, g.entry):
		g.evicted()
	case g.keeping && g.others(resp.Events):
		g.contended()
	}
}

// others reports whether events are of another entry.
func (g *Guard) others(events []*clientv3.Event) bool {
	from, _ := g.queue()
	for _, ev := range events {
		if ev.Type == clientv3.EventTypePut && string(ev.Kv.Key) != g.entry.Key && !wire.BesideInner(from, ev.Kv.Key) {
			return true
		}
	}
	return false
}

// done takes in a reading.
func (r *reading) done() {
	g := r.Guard
	switch behind := !r.stands || r.contended; {
	case g.over:
	case r.err != nil && g.keeper.life.Err() != nil:
	case r.err != nil:
		g.end()
		g.owner.Unguarded(r.err)
	default:
		if r.what == due && r.of == g.handle {
			g.checked(behind)
		}
		if !r.stands {
			g.evicted()
		} else if r.contended && g.keeping {
			g.contended()
		}
	}
}

// evicted reports that our key is gone.
func (g *Guard) evicted() {
	g.end()
	g.owner.Evicted()
}

// contended reports another entry. From then on our own key is watched again, unless it is still to be
// seen whether the present watch reports that entry too.
func (g *Guard) contended() {
	if !g.late {
		g.keeping = false
		g.restart(g.entry.CreateRevision+1, Settle)
	}
	g.owner.Contended()
}

// restart has another watch opened from a revision on, after a delay.
func (g *Guard) restart(from int64, delay time.Duration) {
	g.turn++
	g.follower.restart(from, delay)
}

// end ends the guard.
func (g *Guard) end() {
	if !g.over {
		g.close()
		g.over = true
		heap.Remove(&g.keeper.guards, int(g.index))
	}
}
