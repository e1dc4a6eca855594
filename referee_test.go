package etcdlock

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/history"
)

// referee watches over the guarantees. It hears of every grant and release from the
// workers, and of every change in etcd from the server, before any client does.
type referee struct {
	w        *world
	began    time.Time
	evidence *history.Evidence

	mu         sync.Mutex
	tally      tally
	admin      bool                   // what changes now is an administrator's doing
	holds      map[string][]*refereed // by name, those not known to be over
	tokens     map[string]int64       // the largest so far
	places     map[string]int64       // the CreateRevision of the last holder's key
	evicted    map[string]int64       // entries that an administrator took away, at which revision
	transcript []string
	violations []violation
}

// refereed is one hold. It is over when its owner has begun to release it, or its
// context has ended; or an administrator took the key away, of which the owner can be
// told only after the fact.
type refereed struct {
	name, who string
	claim     claimed
	releasing bool
	evicted   bool
	keyGone   time.Time // when its key left etcd while it was not over
}

// violation is a promise that was not kept.
type violation struct {
	promise string
	what    string
	line    int // of the transcript
}

// The promises.
const (
	exclusion = "no two holders"
	fencing   = "tokens grow"
	order     = "first come, first served"
	progress  = "no caller waits without end"
	cleanness = "nothing is left behind"
	legal     = "the history is that of a lock"
)

func newReferee(w *world) *referee {
	r := &referee{
		w: w, began: time.Now(),
		holds: map[string][]*refereed{}, tokens: map[string]int64{}, places: map[string]int64{},
		evicted: map[string]int64{},
	}
	r.evidence = history.NewEvidence(r.now, simNames...)
	w.OnEvent(r.changed)
	return r
}

// now is the clock of the histories.
func (r *referee) now() int64 { return int64(time.Since(r.began)) }

func (h *refereed) over() bool { return h.releasing || h.evicted || h.claim.over() != nil }

// granted checks a new hold against all before it.
func (r *referee) granted(name, who string, h claimed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.grants++
	r.notef("%s holds %s, token %d", who, name, h.Token())
	if h.over() != nil {
		// It ended on its way to the worker, which notices at once.
		return
	}
	if h.Token() < r.evicted[entryOf(h.Key(), h.entry())] {
		// The key stood when the hold began, or the one by which it was handed over in
		// memory; the news is still on its way.
		r.holds[name] = append(r.holds[name], &refereed{name: name, who: who, claim: h, evicted: true})
		return
	}
	var still []*refereed
	for _, other := range r.holds[name] {
		if !other.over() {
			still = append(still, other)
			r.violationf(exclusion, "%s holds %s while %s does", who, name, other.who)
		}
	}
	handedOver := r.places[name] == h.entry() // in memory: the token is shared
	if handedOver {
		r.tally.handovers++
	} else if strings.HasSuffix(h.Key(), otherMarked) {
		r.tally.again++
	}
	if h.Token() <= r.tokens[name] && !handedOver {
		r.violationf(fencing, "token %d of %s on %s after %d", h.Token(), who, name, r.tokens[name])
	}
	if h.entry() <= r.places[name] && !handedOver {
		r.violationf(order, "%s on %s lined up at %d, and is granted after one that did at %d", who, name, h.entry(), r.places[name])
	}
	r.tokens[name], r.places[name] = max(r.tokens[name], h.Token()), max(r.places[name], h.entry())
	r.holds[name] = append(still, &refereed{name: name, who: who, claim: h})
}

// releasing tells that the owner regards the hold as over from here on.
func (r *referee) releasing(h claimed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.each(func(o *refereed) {
		if o.claim == h {
			r.ended(o)
			o.releasing = true
			r.notef("%s releases %s (%v)", o.who, o.name, h.over())
		}
	})
}

// over tells that the owner has seen the end of the hold's context.
func (r *referee) over(h claimed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally.losses++
	r.each(func(o *refereed) {
		if o.claim == h {
			r.ended(o)
			r.notef("%s is told that %s is over: %v", o.who, o.name, h.over())
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
	key := string(ev.Kv.Key)
	if ev.Type != mvccpb.Event_DELETE {
		r.evidence.Put(key, ev.Kv.CreateRevision)
		r.notef("etcd %d: %s is written", rev, key)
		return
	}
	r.evidence.Delete(key, rev, r.admin)
	if r.admin {
		r.evicted[entryOf(key, ev.PrevKv.CreateRevision)] = rev
	}
	r.notef("etcd %d: %s is gone", rev, key)
	r.each(func(o *refereed) {
		switch {
		case o.claim.Key() != key || o.claim.entry() != ev.PrevKv.CreateRevision || o.over():
		case r.admin:
			o.evicted = true
			r.notef("%s on %s cannot know that yet", o.who, o.name)
		default:
			o.keyGone = time.Now()
			r.violationf(exclusion, "the key of %s on %s is gone, and it still holds", o.who, o.name)
		}
	})
}

// entryOf names one life of a key.
func entryOf(key string, created int64) string { return fmt.Sprintf("%s@%d", key, created) }

// asAdmin does something that ends holds from outside, which no rule forbids.
func (r *referee) asAdmin(do func()) {
	r.mu.Lock()
	r.admin = true
	r.mu.Unlock()
	do()
	r.mu.Lock()
	r.admin = false
	r.mu.Unlock()
}

func (r *referee) each(f func(*refereed)) {
	for _, name := range simNames {
		for _, o := range r.holds[name] {
			f(o)
		}
	}
}

func (r *referee) violation(promise, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.violationf(promise, format, args...)
}

func (r *referee) violationf(promise, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	r.violations = append(r.violations, violation{promise, what, len(r.transcript)})
	r.notef("VIOLATION: %s: %s", promise, what)
}

// illegal tells of a history that no lock could have made, when the schedule is over.
func (r *referee) illegal(err error) {
	r.violations = append(r.violations, violation{legal, err.Error(), len(r.transcript)})
	r.transcript = append(r.transcript, "VIOLATION: "+err.Error())
}

func (r *referee) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notef(format, args...)
}

func (r *referee) notef(format string, args ...any) {
	r.transcript = append(r.transcript, fmt.Sprintf("%13v  ", time.Since(r.began))+fmt.Sprintf(format, args...))
}

// Lines of a transcript that are shown before and after the first violation.
const (
	linesBefore = 120
	linesAfter  = 30
)

// verdict is empty if all promises were kept; else it tells the first that was not, what
// went before, and how to see it again.
func (p *played) verdict() string {
	if len(p.violations) == 0 {
		return ""
	}
	first := p.violations[0]
	from, to := max(first.line-linesBefore, 0), min(first.line+linesAfter, len(p.transcript))
	var b strings.Builder
	fmt.Fprintf(&b, "schedule %d: %d violations, the first: %s: %s\n", p.seed, len(p.violations), first.promise, first.what)
	fmt.Fprintf(&b, "lines %d to %d of %d:\n%s\n", from+1, to, len(p.transcript), strings.Join(p.transcript[from:to], "\n"))
	fmt.Fprintf(&b, "all of it: make sim SEED=%d (or: ETCDLOCK_SEED=%d go test -v -count 1 -run '^%s$' .)", p.seed, p.seed, p.test)
	return b.String()
}
