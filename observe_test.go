package etcdlock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// observer observes an election in a goroutine of its own, and remembers everything.
type observer struct {
	*pending[any]
	mu   sync.Mutex
	seen []Leader
	pace time.Duration // how long it takes over each observation
}

func (w *world) observe(e *Election, pace time.Duration) *observer {
	o := &observer{pace: pace}
	o.pending = start(w, func(ctx context.Context) (_ any, last error) {
		for leader, err := range e.Observe(ctx) {
			if last != nil {
				w.Errorf("%v, %v after the error %v", leader, err, last)
			}
			if last = err; err != nil {
				continue
			}
			o.mu.Lock()
			o.seen = append(o.seen, leader)
			o.mu.Unlock()
			time.Sleep(o.pace)
		}
		return nil, last
	})
	w.pass(20 * time.Millisecond)
	return o
}

func (o *observer) all() []Leader {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.seen)
}

// vacant stands for a vacancy in what an observer has seen.
const vacant = "(vacant)"

// saw are the values that were seen, in order.
func (o *observer) saw() []string {
	var values []string
	for _, leader := range o.all() {
		if leader.Vacant() {
			values = append(values, vacant)
		} else {
			values = append(values, leader.Value)
		}
	}
	return values
}

func TestAnObserverSeesThePresentLeaderFirst(t *testing.T) {
	simulate(t, func(w *world) {
		a, e := w.session("a"), NewElection(w.session("o"), "e")
		require.Equal(w, []string{vacant}, w.observe(e, 0).saw()) // trap B8

		term := w.campaign(NewElection(a, "e"), "A")
		w.candidate(NewElection(w.session("b"), "e"), "B")
		seen := w.observe(e, 0).all()
		require.Equal(w, []Leader{{
			Value: "A", Key: term.Key(), Lease: a.Lease(), CreateRevision: w.Get(term.Key()).CreateRevision,
			MinToken: term.Token(), Revision: w.Revision(),
		}}, seen)
		require.Zero(w, w.Client("o").Count(simetcd.Txn, simetcd.Put), "to observe writes nothing")
	})
}

// trap B8
func TestAnObserverSeesEveryChangeOfTheLeaderInOrder(t *testing.T) {
	simulate(t, func(w *world) {
		a, b := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e")
		o := w.observe(NewElection(w.session("o"), "e"), 0)
		term := w.campaign(a, "A")
		require.NoError(w, term.Proclaim(w.ctx, "A2"))
		require.NoError(w, term.Proclaim(w.ctx, "A2")) // no news
		require.NoError(w, term.Proclaim(w.ctx, ""))
		require.NoError(w, term.Proclaim(w.ctx, "\x00\xff"))
		wait := w.candidate(b, "B") // does not lead yet
		require.NoError(w, term.Resign(w.ctx))
		require.NoError(w, wait.get().Resign(w.ctx))
		for range 2 { // two terms of one candidate with one value
			require.NoError(w, w.campaign(a, "A").Resign(w.ctx))
		}
		w.pass(50 * time.Millisecond)
		require.Equal(w, []string{vacant, "A", "A2", "", "\x00\xff", "B", vacant, "A", vacant, "A", vacant}, o.saw())
		seen := o.all()
		require.NotEqual(w, seen[7].CreateRevision, seen[9].CreateRevision)
	})
}

// trap B7
func TestAnObserverFollowsTheLeaderInAnyWeather(t *testing.T) {
	// A fault goes on while the leader changes, and ends then.
	for name, fault := range map[string]struct{ begin, end func(w *world) }{
		"compaction":         {begin: func(w *world) { w.Compact(0) }},
		"watches broken":     {begin: func(w *world) { w.CutWatches() }},
		"watches cancelled":  {begin: func(w *world) { w.CancelWatches("etcdserver: mvcc: made for a test") }},
		"a new raft leader":  {begin: func(w *world) { w.NewLeader() }},
		"connection reset":   {begin: func(w *world) { w.Client("o").Reset() }},
		"cut off":            {func(w *world) { w.Client("o").Cut() }, func(w *world) { w.Client("o").Heal() }},
		"cut off, then late": {func(w *world) { w.Client("o").CutReplies() }, func(w *world) { w.Client("o").Resume() }},
		"cut off for longer than its lease": {
			func(w *world) { w.Client("o").Cut() }, func(w *world) { w.pass(3 * ttl); w.Client("o").Heal() }},
		"cut off, and compacted meanwhile": {
			func(w *world) { w.Client("o").Cut() },
			func(w *world) { w.Compact(0); w.Client("o").Reset(); w.Client("o").Heal() }},
		"restart":                 {end: func(w *world) { w.Stop(); w.pass(time.Second); w.Start() }},
		"away for longer":         {end: func(w *world) { w.Stop(); w.pass(3 * ttl); w.Start() }},
		"a deletion told to none": {begin: func(w *world) { w.MissDelete(string(w.Keys("e/")[0].Key)) }},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				o := w.observe(NewElection(w.session("o"), "e"), 0)
				term := w.campaign(NewElection(w.session("a"), "e"), "A")
				w.pass(time.Second)
				require.Equal(w, []string{vacant, "A"}, o.saw())
				if fault.begin != nil {
					fault.begin(w)
				}
				require.NoError(w, term.Resign(w.ctx))
				if fault.end != nil {
					fault.end(w)
				}
				w.pass(15 * time.Second)
				require.Equal(w, []string{vacant, "A", vacant}, o.saw())

				w.campaign(NewElection(w.session("b"), "e"), "B")
				w.pass(time.Second)
				require.Equal(w, []string{vacant, "A", vacant, "B"}, o.saw())
				o.isWaiting()
				o.cancel()
				o.get()
			})
		})
	}
}

// trap B9: each observation was the state at its revision, they come in order and differ, and the last one is how it is.
func TestAnObserverIsNeverToldOfALeaderThatWasNoneAtThatRevision(t *testing.T) {
	sum := 0
	for seed := range uint64(5) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			h := newSuccession(w, "e")
			var observers []*observer
			for i, pace := range []time.Duration{0, 100 * time.Millisecond, 2 * time.Second} {
				observers = append(observers, w.observe(NewElection(w.session(fmt.Sprintf("o%d", i)), "e"), pace))
			}
			stop, cancel := context.WithCancel(w.ctx)
			var candidates sync.WaitGroup
			for i := range 3 {
				e, r := NewElection(w.session(fmt.Sprintf("c%d", i)), "e"), rand.New(rand.NewPCG(seed, uint64(i)))
				candidates.Go(func() {
					for n := 0; stop.Err() == nil; n++ {
						term, err := e.Campaign(stop, fmt.Sprint(i, ".", n))
						if err != nil {
							continue
						}
						time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
						_ = term.Proclaim(stop, "and again")
						_ = term.Resign(w.ctx)
					}
				})
			}
			w.weather(seed, 20, noMissedDeletes, "o0", "o1", "o2")
			cancel()
			candidates.Wait()
			w.pass(30 * time.Second) // for what they left to be deleted in the background
			for i, o := range observers {
				seen := o.all()
				for range 60 { // the slow one has more to tell
					if len(seen) > 0 && seen[len(seen)-1].Revision >= h.last() {
						break
					}
					w.pass(20 * time.Second)
					seen = o.all()
				}
				sum += len(seen)
				for j, leader := range seen {
					require.Equal(w, h.first(leader.Revision), leader.Key+"="+leader.Value, "seed %d, observer %d, observation %d", seed, i, j)
					if j > 0 && leader.Unconfirmed == seen[j-1].Unconfirmed {
						require.Greater(w, leader.Revision, seen[j-1].Revision)
					} else if j > 0 { // the same leader, in doubt after an outage or no longer so
						require.GreaterOrEqual(w, leader.Revision, seen[j-1].Revision)
					}
				}
				require.True(w, seen[len(seen)-1].Vacant(), "seed %d, observer %d", seed, i)
				o.cancel()
				o.get()
			}
		})
	}
	t.Logf("%d observations", sum)
}

// succession has the first entry under a name at every revision.
type succession struct {
	mu      sync.Mutex
	revs    []int64
	entries map[string]*mvccpb.KeyValue
	firsts  []string
}

func newSuccession(w *world, name string) *succession {
	h := &succession{revs: []int64{0}, firsts: []string{"="}, entries: map[string]*mvccpb.KeyValue{}}
	w.OnEvent(func(rev int64, ev *mvccpb.Event) {
		h.mu.Lock()
		defer h.mu.Unlock()
		key := string(ev.Kv.Key)
		if ev.Type == mvccpb.Event_DELETE {
			delete(h.entries, key)
		} else {
			h.entries[key] = ev.Kv
		}
		var first *mvccpb.KeyValue
		for _, kv := range h.entries {
			if first == nil || kv.CreateRevision < first.CreateRevision {
				first = kv
			}
		}
		is := "="
		if first != nil {
			is = string(first.Key) + "=" + string(first.Value)
		}
		if h.revs[len(h.revs)-1] == rev { // one transaction
			h.firsts[len(h.firsts)-1] = is
			return
		}
		h.revs, h.firsts = append(h.revs, rev), append(h.firsts, is)
	})
	return h
}

// first is the key and the value that stood first at a revision.
func (h *succession) first(rev int64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, found := slices.BinarySearch(h.revs, rev)
	if !found {
		i--
	}
	return h.firsts[i]
}

// last is the revision of the last change.
func (h *succession) last() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revs[len(h.revs)-1]
}

func TestASlowObserverSeesEveryChangeOfTheLeaderInOrder(t *testing.T) {
	for _, pace := range []time.Duration{time.Second, 15 * time.Second} {
		t.Run(pace.String(), func(t *testing.T) {
			simulate(t, func(w *world) {
				o := w.observe(NewElection(w.session("o"), "e"), pace)
				term := w.campaign(NewElection(w.session("a"), "e"), "A")
				want := []string{vacant, "A"}
				for i := range 10 {
					want = append(want, fmt.Sprint(i))
					require.NoError(w, term.Proclaim(w.ctx, fmt.Sprint(i)))
				}
				w.pass(15 * pace)
				require.Equal(w, want, o.saw())
			})
		})
	}
}

// trap B11
func TestTheLeaderOfAnElectionIsNeverThatOfAnother(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("o"), "e")
		o := w.observe(e, 0)
		for _, key := range []string{"e", "e-x/1", "e.x", "e0", "e2/1", "ee/1"} {
			w.PutKey(key, "of another client", clientv3.NoLease)
		}
		_, err := e.Leader(w.ctx)
		require.ErrorIs(w, err, ErrNoLeader)
		w.campaign(NewElection(w.session("a"), "e"), "A")
		leader, err := e.Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "A", leader.Value)
		w.pass(time.Second)
		require.Equal(w, []string{vacant, "A"}, o.saw())
	})
}

func TestTheLeaderUnderANameThatCannotBeUsedIsAnError(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("o")
		outer := w.observe(NewElection(s, "in"), 0)
		w.campaign(NewElection(w.session("a"), "in/use"), "A")
		_, err := outer.result()
		require.ErrorIs(w, err, ErrNestedName)
		for _, c := range []struct {
			e  *Election
			is error
		}{
			{NewElection(s, "in"), ErrNestedName}, {NewElection(s, ""), ErrInvalidName}, {NewElection(s, "in/"), ErrInvalidName},
			{NewElection(nil, "e"), ErrSessionClosed},
		} {
			_, err := c.e.Leader(w.ctx)
			require.ErrorIs(w, err, c.is)
			_, err = w.observe(c.e, 0).result()
			require.ErrorIs(w, err, c.is)
		}
	})
}

func TestTheLeaderIsReadByAnybodyInOneRequest(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("o")
		e, client := NewElection(s, "e"), w.Client("o")
		client.ResetCounts()
		_, err := e.Leader(w.ctx)
		require.ErrorIs(w, err, ErrNoLeader)
		require.Equal(w, 1, client.Count())

		a := w.session("a")
		term := w.campaign(NewElection(a, "e"), "A")
		w.candidate(NewElection(w.session("b"), "e"), "B")
		require.NoError(w, term.Proclaim(w.ctx, "A2"))
		leader, err := e.Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, Leader{
			Value: "A2", Key: term.Key(), Lease: a.Lease(), CreateRevision: w.Get(term.Key()).CreateRevision,
			MinToken: term.Token(), Revision: w.Revision(),
		}, leader)
		require.False(w, leader.Vacant())

		client.Cut()
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		_, err = e.Leader(ctx)
		require.ErrorIs(w, err, context.DeadlineExceeded)
		client.Heal()
		require.NoError(w, s.Close(w.ctx))
		_, err = e.Leader(w.ctx)
		require.ErrorIs(w, err, ErrSessionClosed)
	})
}

// An observer needs no lease: however long etcd is away, it learns of the leader afterwards
// (trap B7).
func TestObserveOutlastsALongOutage(t *testing.T) {
	simulate(t, func(w *world) {
		leaders := make(chan string, 10)
		go func() {
			for l, err := range NewElection(w.session("a"), "e").Observe(w.ctx) {
				if err != nil {
					return
				}
				leaders <- l.Value
			}
		}()
		require.Empty(w, <-leaders)
		w.Stop()
		w.pass(5 * time.Minute)
		w.Start()
		w.campaign(NewElection(w.session("b"), "e"), "B")
		select {
		case leader := <-leaders:
			require.Equal(w, "B", leader)
		case <-time.After(10 * time.Second):
			require.Fail(w, "the observer hears nothing")
		}
	})
}
