package promlock

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ages knows since when each call waits and each hold lasts, for the age of the oldest.
type ages struct {
	waiting, held *prometheus.Desc

	mu    sync.Mutex // guards all below, and the fields of each age
	calls map[*age]bool
	holds map[*age]bool
	kinds map[string][]string // all values of the labels that were seen
}

// age is a call, and then its hold.
type age struct {
	kind  string // in ages.kinds
	since time.Time
	ended bool // true: the call has failed, or the hold has ended
}

// ageKey finds the age of a call in its context.
type ageKey struct{ of *ages }

func newAges(labels []string) *ages {
	return &ages{
		waiting: prometheus.NewDesc("etcdlock_acquire_oldest_seconds", "How long the oldest call under way has lasted that acquires a lock or campaigns.", labels, nil),
		held:    prometheus.NewDesc("etcdlock_hold_oldest_seconds", "How long the oldest hold has lasted.", labels, nil),
		calls:   make(map[*age]bool), holds: make(map[*age]bool), kinds: make(map[string][]string),
	}
}

// begin notes a call, and returns its context.
func (a *ages) begin(ctx context.Context, labels []string) context.Context {
	c := &age{kind: strings.Join(labels, "\xff"), since: time.Now()} // no label has this byte
	a.mu.Lock()
	a.calls[c] = true
	a.kinds[c.kind] = labels
	a.mu.Unlock()
	return context.WithValue(ctx, ageKey{a}, c)
}

// granted turns a call into a hold.
func (a *ages) granted(ctx context.Context) {
	c, ok := ctx.Value(ageKey{a}).(*age)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, c)
	if !c.ended { // a loss can be reported before the grant
		c.since = time.Now()
		a.holds[c] = true
	}
}

// end forgets a call that has failed, or a hold.
func (a *ages) end(ctx context.Context) {
	c, ok := ctx.Value(ageKey{a}).(*age)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, c)
	delete(a.holds, c)
	c.ended = true
}

// collect sends the age of the oldest call and of the oldest hold of each kind. It takes time in
// proportion to the calls and holds.
func (a *ages) collect(to chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	send := func(desc *prometheus.Desc, all map[*age]bool) {
		oldest := make(map[string]time.Duration)
		for c := range all {
			oldest[c.kind] = max(oldest[c.kind], time.Since(c.since))
		}
		for kind, labels := range a.kinds {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, oldest[kind].Seconds(), labels...)
		}
	}
	send(a.waiting, a.calls)
	send(a.held, a.holds)
}
