package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/history"
)

// evidence is what etcd itself says about the keys: when each came and went. It closes
// what clients do not know, or did not live to tell. Each member is watched by itself:
// one may be away, and whichever tells first is right.
type evidence struct {
	clients []*clientv3.Client
	wg      sync.WaitGroup
	cancel  context.CancelFunc

	mu    sync.Mutex
	lives map[string][]*life // by key, in the order of their creation
	gaps  int                // histories compacted away before they were seen
}

// life is a key from its creation to its deletion.
type life struct {
	created, deleted int64   // revisions; 0: not deleted, as far as was seen
	came, gone       instant // when that was seen first
}

const prefix = "chaos/"

func gather(ctx context.Context, s *scene) (*evidence, error) {
	ctx, cancel := context.WithCancel(ctx)
	e := &evidence{lives: map[string][]*life{}, cancel: cancel}
	for _, m := range s.cluster.Members {
		c, err := s.cluster.Client(m.Endpoint)
		if err != nil {
			e.close()
			return nil, err
		}
		e.clients = append(e.clients, c)
		e.wg.Go(func() { e.watch(ctx, c) })
	}
	return e, nil
}

// watch follows one member, from the beginning.
func (e *evidence) watch(ctx context.Context, c *clientv3.Client) {
	next := int64(1)
	for ctx.Err() == nil {
		for resp := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
			if resp.CompactRevision > next {
				next = resp.CompactRevision
				e.mu.Lock()
				e.gaps++
				e.mu.Unlock()
			}
			if len(resp.Events) == 0 {
				continue
			}
			at := now()
			e.mu.Lock()
			for _, ev := range resp.Events {
				e.take(ev, at)
			}
			e.mu.Unlock()
			next = resp.Events[len(resp.Events)-1].Kv.ModRevision + 1
		}
		wait(ctx, 100*time.Millisecond) // the member is away
	}
}

func (e *evidence) take(ev *clientv3.Event, at instant) {
	key := string(ev.Kv.Key)
	if ev.Type == clientv3.EventTypePut {
		for _, l := range e.lives[key] {
			if l.created == ev.Kv.CreateRevision {
				l.came = min(l.came, at)
				return
			}
		}
		e.lives[key] = append(e.lives[key], &life{created: ev.Kv.CreateRevision, came: at})
		return
	}
	// A deletion ends the last life that began before it; another member may have told
	// of later ones already.
	var last *life
	for _, l := range e.lives[key] {
		if l.created < ev.Kv.ModRevision && (last == nil || l.created > last.created) {
			last = l
		}
	}
	if last != nil && (last.deleted == 0 || last.deleted == ev.Kv.ModRevision) {
		last.deleted = ev.Kv.ModRevision
		if last.gone == 0 || at < last.gone {
			last.gone = at
		}
	}
}

// of finds the life of the key at a revision.
func (e *evidence) of(key string, revision int64) (life, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lives[key] {
		if l.created <= revision && (l.deleted == 0 || l.deleted > revision) {
			return *l, true
		}
	}
	return life{}, false
}

// slack is by how much the watches may have been later than where the holders' own times
// show how late they were. Much more of it, and the checker has no answer in time.
const slack = 250 * time.Millisecond

// lag is how long after a change the first of the watches told of it, at the most.
func (e *evidence) lag(holds []*holding) time.Duration {
	lag := time.Duration(0)
	for _, h := range holds {
		if l, ok := e.of(h.Key, h.Token); ok {
			lag = max(lag, l.came.sub(h.From))
			if h.Freed != 0 && l.gone != 0 {
				lag = max(lag, l.gone.sub(h.Freed))
			}
		}
	}
	return lag + slack
}

// told is the evidence on the keys under the names of some holds, as if one watch had told
// of it.
func (e *evidence) told(holds []*holding) *history.Evidence {
	lag, under := e.lag(holds), names(holds)
	e.mu.Lock()
	defer e.mu.Unlock()
	type change struct {
		key     string
		rev     int64
		at      instant
		deleted bool
	}
	var changes []change
	for key, lives := range e.lives {
		for _, l := range lives {
			changes = append(changes, change{key, l.created, l.came, false})
			if l.deleted != 0 {
				changes = append(changes, change{key, l.deleted, l.gone, true})
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.rev, b.rev) })
	var at instant
	all := history.NewEvidence(func() int64 { return int64(at) }, slices.Collect(maps.Keys(under))...)
	all.Lag = lag
	for _, c := range changes {
		at = c.at
		if c.deleted {
			all.Delete(c.key, c.rev, false) // no administrator is about
		} else {
			all.Put(c.key, c.rev)
		}
	}
	return all
}

// complete waits until a watch has seen everything that has happened so far.
func (e *evidence) complete(ctx context.Context, admin *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	const mark = prefix + "~"
	put, err := admin.Put(ctx, mark, "")
	if err != nil {
		return err
	}
	for {
		if _, seen := e.of(mark, put.Header.Revision); seen {
			_, err := admin.Delete(ctx, mark)
			return err
		}
		wait(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("the watches on %s do not catch up: %w", prefix, ctx.Err())
		}
	}
}

func (e *evidence) close() {
	e.cancel()
	e.wg.Wait()
	for _, c := range e.clients {
		c.Close()
	}
}
