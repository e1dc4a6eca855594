package etcdlock

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// sharedReferee watches over the rules of readers, writers and permits. It hears of every
// grant and release from the workers, and of every change in etcd before any client does.
type sharedReferee struct {
	w     *world
	began time.Time

	mu         sync.Mutex
	holds      map[string][]*sharedHold // by name, those not known to be over
	all, alone map[string]int64         // the largest token so far: of all, of writers
	entries    map[*queue.Entry]bool    // that had a holder
	limits     []limitSpan              // of the semaphore, oldest first
	grants     map[wire.Mode]int
	together   int // the most readers at a time
	losses     int
	faults     int
	again      int // grants by the second one of the marked keys, see otherMarked
	transcript []string
	violations []string
}

// sharedHold is a hold: permits, to read, or to write.
type sharedHold struct {
	who       string
	mode      wire.Mode
	permits   int
	hold      hold
	releasing bool
}

func (h *sharedHold) over() bool   { return h.releasing || h.hold.over() != nil }
func (h *sharedHold) place() int64 { return h.hold.of.Entry().CreateRevision }

// limitSpan is one limit: it may be in force from a revision on, and all smaller or larger
// ones before it are not any more from when it was confirmed.
type limitSpan struct {
	limit     int
	from      int64
	confirmed int64 // 0: not as yet
}

func newSharedReferee(w *world, limit int) *sharedReferee {
	r := &sharedReferee{
		w: w, began: time.Now(), holds: map[string][]*sharedHold{}, all: map[string]int64{}, alone: map[string]int64{}, entries: map[*queue.Entry]bool{},
		limits: []limitSpan{{limit: limit, confirmed: 1}}, grants: map[wire.Mode]int{},
	}
	w.OnEvent(r.changed)
	return r
}

// granted checks a new hold against all others.
func (r *sharedReferee) granted(name, who string, mode wire.Mode, permits int, h hold) *sharedHold {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := &sharedHold{who: who, mode: mode, permits: permits, hold: h}
	r.grants[mode]++
	r.notef("%s holds %s (%q, %d), token %d, place %d", who, name, mode, permits, h.Token(), held.place())
	if held.over() {
		return held // it ended on its way to the worker, which notices at once
	}
	still := []*sharedHold{held}
	readers := 0
	handed := r.entries[h.of.Entry()] // in memory, or by a writer that has become a reader
	r.entries[h.of.Entry()] = true
	for _, o := range r.holds[name] {
		if o.over() {
			continue
		}
		still = append(still, o)
		if mode != o.mode || mode == wire.Exclusive {
			r.violationf("%s holds %s (%q) while %s does (%q)", who, name, mode, o.who, o.mode)
		}
		readers++
	}
	if mode == wire.Shared {
		r.together = max(r.together, readers+1)
	}
	switch {
	case mode == wire.Exclusive && h.Token() <= r.all[name] && !handed:
		r.violationf("token %d of %s on %s after %d", h.Token(), who, name, r.all[name])
	case h.Token() <= r.alone[name] && !handed:
		r.violationf("token %d of %s on %s after the writer's %d", h.Token(), who, name, r.alone[name])
	}
	r.all[name] = max(r.all[name], h.Token())
	if mode == wire.Exclusive {
		r.alone[name] = max(r.alone[name], h.Token())
	}
	r.holds[name] = still
	if mode == wire.Counted {
		r.count(still)
	}
	return held
}

// count checks that each holder was admitted with no more permits than the limit.
func (r *sharedReferee) count(held []*sharedHold) {
	for _, h := range held {
		if h.over() {
			continue
		}
		sum := 0
		for _, o := range held {
			if !o.over() && o.place() <= h.place() {
				sum += o.permits
			}
		}
		if limit := r.limitAt(h.hold.Token()); sum > limit {
			r.violationf("%d permits of %d are held with those of %s", sum, limit, h.who)
		}
	}
}

// limitAt returns the largest limit by which an entry could be admitted at a revision.
func (r *sharedReferee) limitAt(rev int64) int { return largestLimit(r.limits, rev) }

func largestLimit(limits []limitSpan, rev int64) int {
	largest := 0
	for _, l := range limits {
		if l.confirmed > 0 && l.confirmed <= rev {
			largest = 0 // those before are over
		}
		if l.from <= rev {
			largest = max(largest, l.limit)
		}
	}
	return largest
}

// confirmed tells that a change of the limit has returned without an error.
func (r *sharedReferee) confirmed(limit int) {
	rev := r.w.Revision()
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := &r.limits[len(r.limits)-1]; last.limit == limit {
		last.confirmed = rev
		r.notef("the limit is %d, for all that are let in after %d", limit, rev)
	}
}

// releasing tells that the owner regards the hold as over from here on.
func (r *sharedReferee) releasing(h *sharedHold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.releasing = true
	r.notef("%s releases %s (%v)", h.who, h.hold.of.Name(), h.hold.over())
}

// changed is called for each change in etcd: when the key of a hold goes, which lets the
// next one in, all holds by it must be over.
func (r *sharedReferee) changed(rev int64, ev *mvccpb.Event) {
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
	for name, holds := range r.holds {
		for _, h := range holds {
			if h.hold.Key() == key && h.place() == ev.PrevKv.CreateRevision && !h.over() {
				r.violationf("the key of %s on %s is gone, and it still holds", h.who, name)
			}
		}
	}
}

func (r *sharedReferee) enteredAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again++
}

func (r *sharedReferee) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.losses++
}

func (r *sharedReferee) violation(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violationf(format, args...)
}

func (r *sharedReferee) violationf(format string, args ...any) {
	r.notef("VIOLATION: "+format, args...)
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

func (r *sharedReferee) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notef(format, args...)
}

func (r *sharedReferee) notef(format string, args ...any) {
	r.transcript = append(r.transcript, fmt.Sprintf("%12v  ", time.Since(r.began))+fmt.Sprintf(format, args...))
}
