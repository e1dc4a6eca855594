package etcdlock

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// referee watches over the guarantees. It hears of every grant and release from the
// workers, and of every change in etcd from the server, before any client does.
type referee struct {
	w             *world
	expectOverlap bool
	began         time.Time

	mu         sync.Mutex
	tally      tally
	faults     int
	holds      map[string][]*refereed // by name, those not known to be over
	tokens     map[string]int64       // the largest so far
	places     map[string]int64
	tenures    map[string]*tenure
	transcript []string
	violations []string
}

// refereed is one hold. It is over when its owner has begun to release it, or its
// context has ended.
type refereed struct {
	who       string
	hold      *Hold
	releasing bool
	keyGone   time.Time // when its key left etcd while it was not over
}

func newReferee(w *world, expectOverlap bool) *referee {
	r := &referee{
		w: w, expectOverlap: expectOverlap, began: time.Now(),
		holds: map[string][]*refereed{}, tokens: map[string]int64{}, places: map[string]int64{}, tenures: map[string]*tenure{},
	}
	w.OnEvent(r.changed)
	return r
}

func (h *refereed) over() bool { return h.releasing || h.hold.over() != nil }

// granted checks a new hold against all before it.
func (r *referee) granted(name, who string, h *Hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.grants++
	r.notef("%s holds %s, token %d", who, name, h.Token())
	if h.over() != nil {
		// It ended on its way to the worker, who will see so at once.
		return
	}
	var still []*refereed
	for _, other := range r.holds[name] {
		if !other.over() {
			still = append(still, other)
			r.overlap(other, "%s holds %s while %s does", who, name, other.who)
		}
	}
	handedOver := r.tenures[name] == h.tenure // in memory: the token is shared
	r.tenures[name] = h.tenure
	if handedOver {
		r.tally.handovers++
	}
	if h.Token() <= r.tokens[name] && !handedOver {
		r.violationf("token %d of %s on %s after %d", h.Token(), who, name, r.tokens[name])
	}
	if h.tenure.entry.CreateRevision <= r.places[name] && !handedOver {
		r.violationf("%s on %s lined up at %d, and is granted after one who did at %d", who, name, h.tenure.entry.CreateRevision, r.places[name])
	}
	r.tokens[name], r.places[name] = h.Token(), h.tenure.entry.CreateRevision
	r.holds[name] = append(still, &refereed{who: who, hold: h})
}

// releasing tells that the owner regards the hold as over from here on.
func (r *referee) releasing(h *Hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each(func(o *refereed) {
		if o.hold == h {
			r.ended(o)
			o.releasing = true
			r.notef("%s releases %s (%v)", o.who, h.tenure.line.name, h.over())
		}
	})
}

// over tells that the owner has seen the end of the hold's context.
func (r *referee) over(h *Hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.losses++
	r.each(func(o *refereed) {
		if o.hold == h {
			r.ended(o)
			r.notef("%s is told that %s is over: %v", o.who, h.tenure.line.name, h.Err())
		}
	})
}

// ended measures for how long a hold went on without its key.
func (r *referee) ended(o *refereed) {
	if !o.keyGone.IsZero() {
		r.tally.worst = max(r.tally.worst, time.Since(o.keyGone))
		o.keyGone = time.Time{}
	}
}

// changed is called for each change in etcd: when the key of a hold goes, which lets
// the next one in, the hold must be over.
func (r *referee) changed(rev int64, ev *mvccpb.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ev.Type != mvccpb.Event_DELETE {
		r.notef("etcd %d: %s is written", rev, ev.Kv.Key)
		return
	}
	r.notef("etcd %d: %s is gone", rev, ev.Kv.Key)
	r.each(func(o *refereed) {
		if o.hold.Key() == string(ev.Kv.Key) && o.hold.tenure.entry.CreateRevision == ev.PrevKv.CreateRevision && !o.over() {
			o.keyGone = time.Now()
			r.overlap(o, "the key of %s is gone, and it still holds", o.who)
		}
	})
}

func (r *referee) each(f func(*refereed)) {
	for _, name := range simNames {
		for _, o := range r.holds[name] {
			f(o)
		}
	}
}

func (r *referee) overlap(other *refereed, format string, args ...any) {
	r.tally.overlaps++
	if !r.expectOverlap {
		r.violationf(format, args...)
		return
	}
	r.notef(format, args...)
}

func (r *referee) violation(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violationf(format, args...)
}

func (r *referee) violationf(format string, args ...any) {
	r.notef("VIOLATION: "+format, args...)
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

func (r *referee) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notef(format, args...)
}

func (r *referee) notef(format string, args ...any) {
	r.transcript = append(r.transcript, fmt.Sprintf("%12v  ", time.Since(r.began))+fmt.Sprintf(format, args...))
}

// report fails the test with the transcript if anything was violated.
func (r *referee) report() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.violations) > 0 && !r.expectOverlap {
		r.w.Errorf("%d violations, the first: %s\n%s", len(r.violations), r.violations[0], strings.Join(r.transcript, "\n"))
	}
	r.tally.faults = r.faults
	return r.tally
}
