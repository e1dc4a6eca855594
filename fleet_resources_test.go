package etcdlock

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A load is one thing that a program may have very many of, and the most that each more of it may cost.
type load struct {
	what string
	// add makes n of them on the client of that name, and returns when all stand.
	add func(w *world, client string, n int)

	goroutines float64 // for each
	heap       float64 // bytes for each
	requests   float64 // a minute for each, renewals included
	streams    float64 // for each
	watches    float64 // for each
	// troubled is requests for each in a minute in which the connection breaks every 5 s, and etcd stops for 3 s.
	troubled float64
}

// loads state the bounds, about a quarter above what was measured. A session of 10 s renews 18 times a minute. A waiter's
// figures contain the hold that it waits for, and a candidate's its session.
var loads = []load{
	{what: "session", goroutines: 2, heap: 12 << 10, requests: 20, streams: 0, watches: 0, troubled: 25, add: func(w *world, client string, n int) {
		for range n {
			w.session(client)
		}
	}},
	{what: "hold", goroutines: 2.5, heap: 30 << 10, requests: 2, streams: 0, watches: 1, troubled: 16, add: func(w *world, client string, n int) {
		s := w.session(client)
		for i := range n {
			w.lock(NewMutex(s, fmt.Sprintf("m/%d", i)))
		}
	}},
	{what: "waiter", goroutines: 6, heap: 54 << 10, requests: 8, streams: 0, watches: 1, troubled: 24, add: func(w *world, client string, n int) {
		s, other := w.session(client), w.session("other")
		for i := range n {
			name := fmt.Sprintf("m/%d", i)
			w.lock(NewMutex(other, name))
			start(w, NewMutex(s, name).Lock)
		}
	}},
	{what: "waiter in the session", goroutines: 1.5, heap: 4 << 10, requests: 0, streams: 0, watches: 0, troubled: 1, add: func(w *world, client string, n int) {
		s := w.session(client)
		w.lock(NewMutex(s, "m"))
		for range n {
			start(w, NewMutex(s, "m").Lock)
		}
	}},
	{what: "observer", goroutines: 1.5, heap: 4 << 10, requests: 0, streams: 0, watches: 0, troubled: 1, add: func(w *world, client string, n int) {
		e := NewElection(w.session(client), "e")
		for range n {
			watchOver(w, e)
		}
	}},
	{what: "observer of another election", goroutines: 4, heap: 32 << 10, requests: 8, streams: 0, watches: 1, troubled: 30, add: func(w *world, client string, n int) {
		s := w.session(client)
		for i := range n {
			watchOver(w, NewElection(s, fmt.Sprintf("e/%d", i)))
		}
	}},
	{what: "candidate", goroutines: 8, heap: 56 << 10, requests: 30, streams: 0, watches: 2, troubled: 60, add: func(w *world, client string, n int) {
		for i := range n {
			s := w.session(client)
			stands(w, NewElection(s, "e"), fmt.Sprint("candidate-", i))
		}
	}},
	{what: "candidate with a lease of its own", goroutines: 12, heap: 150 << 10, requests: 60, streams: 0, watches: 3, troubled: 105, add: func(w *world, client string, n int) {
		for i := range n {
			s := w.session(client)
			stands(w, NewElection(s, "e"), fmt.Sprint("candidate-", i), WithStopTimeout(time.Second), WithMonitor(new(Monitor)))
		}
	}},
}

// watchOver observes until the test ends.
func watchOver(w *world, e *Election) {
	start(w, func(ctx context.Context) (int, error) {
		for _, err := range e.Observe(ctx) {
			if err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
}

// stands runs for an election until the test ends.
func stands(w *world, e *Election, value string, opts ...RunOption) {
	start(w, func(ctx context.Context) (int, error) {
		return 0, e.Run(ctx, value, func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			return nil
		}, opts...)
	})
}

// usage is what a world costs at one time.
type usage struct{ goroutines, heap, streams, watches, requests float64 }

// measure rests for a minute, and then counts.
func measure(w *world, client string, disturb func()) usage {
	c := w.Client(client)
	before := c.Count()
	disturb()
	synctest.Wait()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	open := c.Open()
	return usage{
		goroutines: float64(runtime.NumGoroutine()), heap: float64(mem.HeapAlloc) + float64(mem.StackInuse),
		streams: float64(open.Streams), watches: float64(open.Watches), requests: float64(c.Count() - before),
	}
}

// atRest checks that a process which does nothing but to stand in its election costs no more than is stated: two leases
// of which each is renewed three times in a TTL, one candidate, and the observers of crash detection and of a monitor.
func (p *process) atRest(requests float64, open simetcd.Open) {
	const leases = 2
	renewals := leases * 3 * float64(time.Minute) / float64(min(p.row.duration("session.WithTTL"), p.session.cfg.TTL)) // one that was taken over may be shorter
	watches := 8.0
	if p.session.cfg.Hooks.Watches == nil {
		// clientv3's own watcher leaves a watch in etcd, until its next event, that was given up while its
		// stream was resumed: at most those of the key and of the asks of each name.
		watches += float64(2 * len(fleetNames))
	}
	streams := 1.0 // of the client, however many sessions there are
	if p.session.cfg.Hooks.Renewals == nil {
		streams = leases // clientv3's own Lease has a stream for each renewal that is under way
	}
	for what, bound := range map[string][2]float64{
		"requests a minute": {requests, 1.3*renewals + 60},
		"renewal streams":   {float64(open.Renewals), streams},
		"watches":           {float64(open.Watches), watches},
	} {
		p.cover.atMost(what+" of a process", bound[0])
		if bound[0] > bound[1] {
			p.violation(frugality, "%s has %.0f %s at rest, and not %.0f at most; it watches %q", p.id, bound[0], what, bound[1], open.Keys)
		}
	}
	if p.session.cfg.Hooks.Watches == nil {
		return // clientv3 leaves a watch in etcd if its context ends while the watch is resumed
	}
	for _, key := range open.Keys {
		asks := key == wire.Side("e", "") && p.row.has("run.WithResignOnRequest")
		if !asks && !strings.HasPrefix(key, wire.Prefix("e")) {
			p.violation(frugality, "%s watches %q at rest, and nobody locks it", p.id, key)
		}
	}
}

// frugality is the promise that what is used stays under the bounds that are stated.
const frugality = "nothing grows"

// telling is the promise that a trace hears of each hold once, and of its end once.
const telling = "each hold and its end are told once"

// goroutinesAtRest is what a process, with its client and the server's part, has at rest. 27 were measured.
const goroutinesAtRest = 36

func (u usage) less(o usage, n float64) usage {
	return usage{(u.goroutines - o.goroutines) / n, (u.heap - o.heap) / n, (u.streams - o.streams) / n, (u.watches - o.watches) / n, (u.requests - o.requests) / n}
}

// Each more session, hold, waiter, observer or candidate costs a process no more than is stated, at rest and while the
// network and etcd fail. // report T2
func TestWhatEachMoreCostsAtRestAndUnderFaults(t *testing.T) {
	const few, many = 10, 110
	costs := func(t *testing.T, l load, n int) (rest, trouble usage) {
		simulateWith(t, simetcd.Config{Seed: 1}, func(w *world) {
			l.add(w, "a", n)
			w.pass(2 * time.Minute)
			rest = measure(w, "a", func() { w.pass(time.Minute) })
			trouble = measure(w, "a", func() {
				for i := range 12 {
					w.Client("a").Reset()
					if i == 6 {
						w.Stop()
						w.pass(3 * time.Second)
						w.Start()
						w.pass(2 * time.Second)
						continue
					}
					w.pass(5 * time.Second)
				}
			})
			w.pass(2 * time.Minute)
			after := measure(w, "a", func() { w.pass(time.Minute) })
			require.LessOrEqual(t, after.goroutines, rest.goroutines+float64(n)/2+10, "goroutines stay after faults")
			require.LessOrEqual(t, after.streams, rest.streams+1, "streams stay after faults")
			require.LessOrEqual(t, after.watches, rest.watches+1, "watches stay after faults")
			require.LessOrEqual(t, after.requests, rest.requests*1.2+float64(n), "requests stay after faults")
		})
		return rest, trouble
	}
	for _, l := range loads {
		t.Run(l.what, func(t *testing.T) {
			fewAtRest, fewInTrouble := costs(t, l, few)
			manyAtRest, manyInTrouble := costs(t, l, many)
			rest, trouble := manyAtRest.less(fewAtRest, many-few), manyInTrouble.less(fewInTrouble, many-few)
			t.Logf("each %s: %.1f goroutines, %.0f bytes, %.2f streams, %.2f watches, %.1f requests a minute; under faults %.1f goroutines, %.1f requests a minute",
				l.what, rest.goroutines, rest.heap, rest.streams, rest.watches, rest.requests, trouble.goroutines, trouble.requests)
			require.LessOrEqual(t, rest.goroutines, l.goroutines, "goroutines")
			if !raceEnabled { // the detector takes memory of its own
				require.LessOrEqual(t, rest.heap, l.heap, "heap and stacks")
			}
			require.LessOrEqual(t, rest.streams, l.streams, "streams")
			require.LessOrEqual(t, rest.watches, l.watches, "watches")
			require.LessOrEqual(t, rest.requests, l.requests, "requests a minute")
			require.LessOrEqual(t, trouble.requests, l.troubled, "requests a minute under faults")
			require.LessOrEqual(t, trouble.goroutines, 2*l.goroutines, "goroutines under faults")
		})
	}
}
