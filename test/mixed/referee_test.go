package mixed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// referee knows when each process believed that it held a name, and the truth from etcd.
type referee struct {
	w    *world
	name string

	mu    sync.Mutex
	spans []*span
	hurt  map[clientv3.LeaseID]time.Time // when an operator was about to revoke it

	history history
	seen    chan struct{} // closed when the history is complete
}

// span is a hold from when its user was told of it to right before its release.
type span struct {
	*hold
	kind     *kind // nil: ours
	from, to time.Time
}

// history is every change of the keys under a name.
type history []change

type change struct {
	rev     int64 // at which it was made
	key     string
	create  int64
	value   string
	deleted bool
}

func (w *world) referee(name string) *referee {
	w.t.Helper()
	r := &referee{w: w, name: name, hurt: make(map[clientv3.LeaseID]time.Time), seen: make(chan struct{})}
	resp, err := w.admin.Get(w.ctx(), name)
	require.NoError(w.t, err)
	// The end is told by a key beside those of the name.
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	events := w.admin.Watch(ctx, name, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	go func() {
		defer close(r.seen)
		for resp := range events {
			for _, ev := range resp.Events {
				if string(ev.Kv.Key) == r.end() {
					return
				}
				r.history = append(r.history, change{
					rev: ev.Kv.ModRevision, key: string(ev.Kv.Key), create: ev.Kv.CreateRevision, value: string(ev.Kv.Value),
					deleted: ev.Type == clientv3.EventTypeDelete,
				})
			}
		}
	}()
	return r
}

func (r *referee) end() string { return r.name + ".end" }

// begin notes a hold; the function that it returns is called right before its release.
func (r *referee) begin(h *hold, k *kind) (end func()) {
	s := &span{hold: h, kind: k, from: time.Now()}
	r.mu.Lock()
	r.spans = append(r.spans, s)
	r.mu.Unlock()
	over := sync.OnceFunc(func() {
		now := time.Now()
		r.mu.Lock()
		s.to = now
		r.mu.Unlock()
	})
	if h.ended == nil {
		return over
	}
	released := make(chan struct{})
	go func() {
		select {
		case <-h.ended:
			over()
		case <-released:
		}
	}()
	return func() {
		over()
		close(released)
	}
}

// hurts notes that an operator is about to revoke a lease. From now on its holder may be wrong, because
// it cannot be notified in time.
func (r *referee) hurts(id clientv3.LeaseID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, already := r.hurt[id]; !already {
		r.hurt[id] = time.Now()
	}
}

// close waits until all of the history is there.
func (r *referee) close() {
	t := r.w.t
	t.Helper()
	r.w.waitForKeys(r.name, 0)
	_, err := r.w.admin.Put(r.w.ctx(), r.end(), "")
	require.NoError(t, err)
	receiveClosed(t, r.seen, "the end of the history")
	_, err = r.w.admin.Delete(r.w.ctx(), r.end())
	require.NoError(t, err)
}

// incarnation is a key from its creation to its deletion.
type incarnation struct {
	key             string
	create, deleted int64 // 0: it was not
}

func (h history) incarnations() []*incarnation {
	var all []*incarnation
	live := make(map[string]*incarnation)
	for _, c := range h {
		if strings.ContainsRune(c.key, 0) {
			continue // beside the queue
		}
		switch in := live[c.key]; {
		case c.deleted && in != nil:
			in.deleted = c.rev
			delete(live, c.key)
		case in == nil && !c.deleted:
			in = &incarnation{key: c.key, create: c.create}
			live[c.key] = in
			all = append(all, in)
		}
	}
	return all
}

// firstAt is the first entry at a revision, with its value then; nil if there was none.
func (h history) firstAt(rev int64) (first *change) {
	live := make(map[string]*change)
	for i, c := range h {
		if c.rev > rev {
			break
		}
		if live[c.key] = &h[i]; c.deleted {
			delete(live, c.key)
		}
	}
	for _, c := range live {
		if first == nil || c.create < first.create {
			first = c
		}
	}
	return first
}

// observed compares what an observer of ours told with what was so at that revision.
func (r *referee) observed(told []etcdlock.Leader) (violations []string) {
	var last int64
	for _, leader := range told {
		first := r.history.firstAt(leader.Revision)
		switch {
		case leader.Revision < last:
			violations = append(violations, fmt.Sprintf("revision %d was observed after %d", leader.Revision, last))
		case first == nil && leader.Vacant():
		case first == nil || first.key != leader.Key || first.value != leader.Value || first.create != leader.CreateRevision:
			violations = append(violations, fmt.Sprintf("%+v was observed, and it was %+v", leader, first))
		}
		last = leader.Revision
	}
	return violations
}

// verdict is what the referee has found.
type verdict struct {
	violations []string
	holds      int // all that were looked at
	believed   int // holds of others that they were told of when their key was gone (traps A6, B1)
}

func (r *referee) verdict() (v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.history.incarnations()
	say := func(format string, args ...any) { v.violations = append(v.violations, fmt.Sprintf(format, args...)) }

	type turn struct {
		*span
		*incarnation
	}
	var turns []turn
	slices.SortFunc(r.spans, func(a, b *span) int { return a.from.Compare(b.from) })
	for _, s := range r.spans {
		v.holds++
		if s.to.IsZero() {
			say("the hold of %s did not end", s.key)
			continue
		}
		if hurt, ok := r.hurt[s.lease]; ok && hurt.Before(s.to) {
			s.to = hurt
		}
		gone := s.to.Before(s.from) // nothing was promised any more
		if gone && s.kind != nil {
			v.believed++
			continue
		}
		at := s.token
		in := find(all, s.key, at)
		switch {
		case s.kind != nil && s.kind.orderOnly && s.order != 0:
			// The token tells of the entry only; that it was granted in its turn, the clock tells.
			if in == nil {
				say("%s was there at %d, by its own word, and was not", s.key, at)
				continue
			}
		case in == nil:
			say("%s was granted by revision %d, when it did not stand", s.key, at)
			continue
		default:
			for _, older := range all {
				if older.create < in.create && (older.deleted == 0 || older.deleted > at) {
					say("%s was granted by revision %d, past %s", s.key, at, older.key)
				}
			}
		}
		if !gone {
			turns = append(turns, turn{s, in})
		}
	}
	for i, next := range turns {
		if i == 0 {
			continue
		}
		before := turns[i-1]
		if d := before.to.Sub(next.from); d > 0 {
			say("%s held %v into the hold of %s", before.hold.key, d, next.hold.key)
		}
		if before.create == next.create {
			continue // one session, from hand to hand
		}
		if before.create > next.create {
			say("%s (created at %d) held before %s (%d)", before.hold.key, before.create, next.hold.key, next.create)
		}
		if (next.kind == nil || !next.kind.orderOnly || next.order == 0) && before.token >= next.token {
			say("the token of %s is %d after %d", next.hold.key, next.token, before.token)
		}
		if before.order != 0 && next.order != 0 && before.order >= next.order {
			say("the creation of %s is %d after %d", next.hold.key, next.order, before.order)
		}
	}
	return v
}

// find finds the key as it stood at a revision.
func find(all []*incarnation, key string, rev int64) *incarnation {
	for _, in := range all {
		if in.key == key && in.create <= rev && (in.deleted == 0 || rev < in.deleted) {
			return in
		}
	}
	return nil
}
