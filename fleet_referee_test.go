package etcdlock

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// A fleetReferee watches over the promises in a fleet. It hears of every grant and release from
// the holders, and of every change in etcd before any client does.
type fleetReferee struct {
	w     *world
	began time.Time

	mu         sync.Mutex
	admin      bool                    // true while a change is an administrator's doing
	holds      map[string][]*fleetHold // by name: those not known to be over
	all        map[string]fence2       // by name: the largest token and place of all holders
	alone      map[string]int64        // by name: the largest token of a holder that held alone
	evicted    map[string]int64        // entries that an administrator took away, and the revision
	entries    map[string]*process     // the last holder of each entry
	fromEtcd   map[string]time.Time    // when an entry was granted
	lenient    time.Time               // until then the consequences of a restore are not judged
	restores   int
	limits     []limitSpan // of the semaphore
	atWork     map[*fleetHold]*job
	transcript []string
	violations []violation
	grants     int
	handovers  int
	losses     int
}

type fence2 struct{ token, place int64 }

// A fleetHold is one hold of one name.
type fleetHold struct {
	name, who string
	p         *process // nil for another library's
	mode      wire.Mode
	permits   int
	key       string
	place     int64
	token     int64
	err       func() error // why it is over, without a look at the clock; nil for another library's
	look      func() error // err with a look at the clock
	releasing bool
	evicted   bool // true if an administrator took the key away, of which the holder is told after the fact
	gone      bool // true if the key has left etcd
	unjudged  bool // true if etcd was restored when it was held, or shortly before it was granted
}

// A job is the function of a term at work.
type job struct {
	instance int
	// rogue says that the function has a licence to outlive a lost term: it was written to be stuck
	// and nothing ends the process, or the machine was asleep.
	rogue bool
}

func newFleetReferee(w *world) *fleetReferee {
	r := &fleetReferee{
		w: w, began: time.Now(), holds: map[string][]*fleetHold{}, all: map[string]fence2{}, alone: map[string]int64{},
		evicted: map[string]int64{}, entries: map[string]*process{}, fromEtcd: map[string]time.Time{}, limits: []limitSpan{{limit: fleetLimit, confirmed: 1}}, atWork: map[*fleetHold]*job{},
	}
	w.OnEvent(r.changed)
	return r
}

// over tells whether the holder may not, and does not, act as one any more. A hold of another library
// is its key: that library may be told too late, which is not held against ours.
func (h *fleetHold) over() bool {
	switch {
	case h.releasing || h.evicted || h.unjudged || h.p != nil && h.p.dead():
		return true
	case h.err == nil:
		return h.gone
	default:
		return h.err() != nil
	}
}

// grant takes note of a hold of a process, and checks it against all others.
func (r *fleetReferee) grant(p *process, name, who string, mode wire.Mode, permits int, h hold) *fleetHold {
	held := &fleetHold{name: name, who: who, p: p, mode: mode, permits: permits, key: h.Key(), place: h.CreateRevision(), token: h.Token(), err: h.over, look: h.Err}
	r.granted(held)
	return held
}

// grantSet is grant for the names of a LockSet.
func (r *fleetReferee) grantSet(p *process, names []string, who string, set *LockSet) (all []*fleetHold) {
	for i, e := range set.hold.of.Entry().Parts() {
		held := &fleetHold{name: names[i], who: who, p: p, mode: wire.Exclusive, key: e.Key, place: e.CreateRevision, token: set.Token(), err: set.hold.over, look: set.hold.Err}
		r.granted(held)
		all = append(all, held)
	}
	return all
}

func (r *fleetReferee) granted(h *fleetHold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.grants++
	r.notef("%s holds %s (%q), key %s, place %d, token %d", h.who, h.name, h.mode, h.key, h.place, h.token)
	if h.over() {
		return // it ended on its way here, which the holder sees at once
	}
	if time.Now().Before(r.lenient) {
		h.unjudged = true
		r.holds[h.name] = append(r.holds[h.name], h)
		return
	}
	if h.token < r.evicted[entryOf(h.key, h.place)] {
		h.evicted = true
		r.holds[h.name] = append(r.holds[h.name], h)
		return
	}
	still := []*fleetHold{h}
	before, known := r.entries[entryOf(h.key, h.place)]
	inMemory := known && before == h.p // handed over inside the process, which shares the token
	r.entries[entryOf(h.key, h.place)] = h.p
	if !inMemory {
		r.fromEtcd[entryOf(h.key, h.place)] = time.Now()
	}
	for _, o := range r.holds[h.name] {
		if o.over() {
			continue
		}
		still = append(still, o)
		if h.mode != o.mode || h.mode == wire.Exclusive {
			r.violationf(exclusion, "%s holds %s (%q) while %s does (%q)", h.who, h.name, h.mode, o.who, o.mode)
		}
	}
	all := r.all[h.name]
	switch {
	case inMemory:
		r.handovers++
		if h.p != nil && h.mode == wire.Exclusive && time.Since(r.fromEtcd[entryOf(h.key, h.place)]) > DefaultTimeSlice && h.p.row.duration("lock.WithTimeSlice") > 0 {
			h.p.effect("lock.WithTimeSlice") // the default slice was over
		}
	case h.err == nil && h.name == "e":
		// The fence of etcd's own election is the creation of the key. See Lock.CreateRevision.
	case h.mode == wire.Exclusive && h.token <= all.token:
		r.violationf(fencing, "token %d of %s on %s after %d", h.token, h.who, h.name, all.token)
	case h.token <= r.alone[h.name]:
		r.violationf(fencing, "token %d of %s on %s after %d, whose holder held alone", h.token, h.who, h.name, r.alone[h.name])
	case h.mode == wire.Exclusive && h.place < all.place:
		r.violationf(order, "%s on %s lined up at %d, and is granted after a holder that did at %d", h.who, h.name, h.place, all.place)
	}
	r.passed(h)
	r.all[h.name] = fence2{max(all.token, h.token), max(all.place, h.place)}
	if h.mode == wire.Exclusive {
		r.alone[h.name] = max(r.alone[h.name], h.token)
	}
	if h.mode == wire.Counted {
		r.count(still)
	}
	r.holds[h.name] = still
}

// passed checks that a hold which excludes all others has passed by no older key.
func (r *fleetReferee) passed(h *fleetHold) {
	if h.mode != wire.Exclusive {
		return
	}
	for _, kv := range r.w.Keys(wire.Prefix(h.name)) {
		if kv.CreateRevision < h.place && string(kv.Key) != h.key {
			r.violationf(order, "%s holds %s, and the older key %s of %d stands", h.who, h.name, kv.Key, kv.CreateRevision)
		}
	}
}

// count checks that each holder was let in with no more permits than the limit.
func (r *fleetReferee) count(held []*fleetHold) {
	for _, h := range held {
		if h.over() {
			continue
		}
		sum := 0
		for _, o := range held {
			if !o.over() && o.place <= h.place {
				sum += o.permits
			}
		}
		if limit := largestLimit(r.limits, h.token); sum > limit {
			r.violationf(exclusion, "%d permits of %d are held with those of %s", sum, limit, h.who)
		}
	}
}

// confirmed tells that a change of the limit has returned without an error.
func (r *fleetReferee) confirmed(limit int) {
	rev := r.w.Revision()
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := &r.limits[len(r.limits)-1]; last.limit == limit {
		last.confirmed = rev
	}
}

// releasing tells that the owner regards the hold as over from here on.
func (r *fleetReferee) releasing(h *fleetHold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.err != nil && h.err() != nil {
		r.losses++
	}
	h.releasing = true
	r.notef("%s releases %s", h.who, h.name)
}

// died tells that a process is dead from here on.
func (r *fleetReferee) died(p *process, how string) { r.note("%s is dead: %s", p.id, how) }

// changed is called for each change in etcd. A key that goes lets the next one in: the hold by it must be over.
func (r *fleetReferee) changed(rev int64, ev *mvccpb.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := string(ev.Kv.Key)
	if ev.Type != mvccpb.Event_DELETE {
		r.notef("etcd %d: %q is %s", rev, key, ev.Kv.Value)
		var o limitOrder
		if strings.HasSuffix(key, "\x00limit") && json.Unmarshal(ev.Kv.Value, &o) == nil {
			r.limits = append(r.limits, limitSpan{limit: o.Limit, from: rev})
		}
		return
	}
	r.notef("etcd %d: %q is gone", rev, key)
	entry := entryOf(key, ev.PrevKv.CreateRevision)
	if r.admin {
		r.evicted[entry] = rev
	}
	for _, holds := range r.holds {
		for _, h := range holds {
			switch {
			case entryOf(h.key, h.place) != entry:
			case r.admin: // also if it is over, and its work has a part of the margin to return in
				h.evicted = true
				r.notef("%s on %s cannot know that yet", h.who, h.name)
			case h.over():
			case h.err == nil:
				h.gone = true
			default:
				r.violationf(exclusion, "the key of %s on %s is gone, and it still holds", h.who, h.name)
			}
		}
	}
}

// asAdmin does something that ends holds from outside.
func (r *fleetReferee) asAdmin(do func()) {
	r.setAdmin(true)
	do()
	r.setAdmin(false)
}

func (r *fleetReferee) setAdmin(is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admin = is
}

// otherHistory tells that etcd has another history from here on, in which revisions come again and keys that were deleted
// stand. What is held across that, or is granted within so long, is not judged. After that no hold goes on without its key.
// report R5
func (r *fleetReferee) otherHistory(lenient time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restores++
	n := r.restores
	r.lenient = time.Now().Add(lenient)
	for _, holds := range r.holds {
		for _, h := range holds {
			h.unjudged = true
		}
	}
	r.forget()
	time.AfterFunc(lenient, func() { r.judgeAgain(n) })
}

// forget forgets revisions, which come again in another history.
func (r *fleetReferee) forget() {
	clear(r.all)
	clear(r.alone)
	clear(r.evicted)
	clear(r.entries)
	clear(r.fromEtcd)
	r.limits = []limitSpan{{limit: 100 * fleetLimit, confirmed: 1}} // which one is in force is not known
}

// judgeAgain ends the lenience after the nth restore.
func (r *fleetReferee) judgeAgain(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.restores != n {
		return
	}
	r.forget()
	for name, holds := range r.holds {
		for _, h := range holds {
			if h.unjudged = false; h.over() || h.err == nil {
				h.releasing = true
				continue
			}
			if kv := r.w.Get(h.key); kv == nil || kv.CreateRevision != h.place {
				r.violationf(exclusion, "%s holds %s long after etcd was restored, and its key does not stand", h.who, name)
			}
			r.entries[entryOf(h.key, h.place)] = h.p // which it goes on with, as where it upgrades
		}
	}
}

// begin tells that the function of a term begins to work. No other one may be at work.
func (r *fleetReferee) begin(h *fleetHold, j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for o, other := range r.atWork {
		switch {
		case h.over() || h.evicted || o.evicted || o.unjudged: // it is about to see so; or the other one has not heard yet
		case o.p.dead():
		case other.rogue && o.err() != nil:
		default:
			r.violationf(exclusion, "the work of %s begins while that of %s goes on (%v)", h.who, o.who, o.err())
		}
	}
	r.atWork[h] = j
}

// stop tells that the function does nothing more.
func (r *fleetReferee) stop(h *fleetHold) {
	r.mu.Lock()
	delete(r.atWork, h)
	r.mu.Unlock()
	r.releasing(h)
}

// outlives tells that the functions of an instance, or this one, may outlive a lost term.
func (r *fleetReferee) outlives(instance int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range r.atWork {
		if j.instance == instance {
			j.rogue = true
		}
	}
}

// leader returns the hold of a running function with an unfinished term, nil if there is none.
func (r *fleetReferee) leader() *fleetHold {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h := range r.atWork {
		if !h.releasing && !h.p.dead() && h.err() == nil {
			return h
		}
	}
	return nil
}

// lookAtTheClock has the holders of an instance look at the clock, as its machine wakes up.
func (r *fleetReferee) lookAtTheClock(instance int) {
	var looks []func() error
	r.mu.Lock()
	for _, holds := range r.holds {
		for _, h := range holds {
			if h.p != nil && h.p.inst.n == instance {
				looks = append(looks, h.look)
			}
		}
	}
	r.mu.Unlock()
	for _, look := range looks {
		_ = look()
	}
}

func (r *fleetReferee) violation(promise, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violationf(promise, format, args...)
}

func (r *fleetReferee) violationf(promise, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	r.violations = append(r.violations, violation{promise, what, len(r.transcript)})
	r.notef("VIOLATION: %s: %s", promise, what)
}

func (r *fleetReferee) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notef(format, args...)
}

func (r *fleetReferee) notef(format string, args ...any) {
	r.transcript = append(r.transcript, fmt.Sprintf("%13v  ", time.Since(r.began))+fmt.Sprintf(format, args...))
}
