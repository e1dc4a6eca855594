package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Evidence is what a watch saw of the keys under some names: when each of them came and went. It is fed by one watch
// that misses nothing, from before the first operation until nothing is left. It is safe for concurrent use.
type Evidence struct {
	// Lag is how long after a change the watch may have told of it. Set it before the first use.
	Lag time.Duration

	names []string
	now   func() int64

	mu      sync.Mutex
	lives   []*life
	byEntry map[entry]*life
	present map[string]*life // by key
}

type entry struct {
	name    string
	created int64
}

// A life is that of one key, from its creation to its deletion.
type life struct {
	name, key         string
	created, deleted  int64 // revisions; deleted is 0 while it stands
	createdAt, goneAt int64
	evicted           bool
}

// NewEvidence makes an empty one for the keys under these names, by the clock of the operations.
func NewEvidence(now func() int64, names ...string) *Evidence {
	return &Evidence{names: names, now: now, byEntry: make(map[entry]*life), present: make(map[string]*life)}
}

// nameOf is the longest of the names that key lies under.
func (e *Evidence) nameOf(key string) (string, bool) {
	best, found := "", false
	for _, n := range e.names {
		if strings.HasPrefix(key, n+"/") && (!found || len(n) > len(best)) {
			best, found = n, true
		}
	}
	return best, found
}

// Put is called for each write that the watch tells of.
func (e *Evidence) Put(key string, created int64) {
	name, ok := e.nameOf(key)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.present[key]; l != nil && l.created == created {
		return // another value
	}
	l := &life{name: name, key: key, created: created, createdAt: e.now()}
	e.lives = append(e.lives, l)
	e.byEntry[entry{name, created}], e.present[key] = l, l
}

// Delete is called for each deletion that the watch tells of. evicted says that an administrator did it, by deleting the
// key or revoking its lease: holders can only be told after the fact, and are over as of then.
func (e *Evidence) Delete(key string, revision int64, evicted bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.present[key]; l != nil {
		l.deleted, l.goneAt, l.evicted = revision, e.now(), evicted
		delete(e.present, key)
	}
}

// life is that of the entry that was created at a revision; nil if nothing was seen of it, as when there is no evidence.
func (e *Evidence) life(name string, created int64) *life {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byEntry[entry{name, created}]
}

// closed is the history with what is known from the evidence put in, and without what came to nothing.
func (e *Evidence) closed(ops []Op) ([]Op, error) {
	over, void := make(map[string]bool), make(map[string]bool)
	for _, o := range ops {
		if o.Kind == Release {
			over[o.Hold] = true
		}
		// The key stood at the revision of the token, when the hold began or the one by which it was handed over in memory;
		// the news that it was taken away came later still.
		if l := e.life(o.Name, o.Entry); o.Kind == Acquire && l != nil && l.evicted && o.Return > l.goneAt && o.Token < l.deleted {
			void[o.Hold] = true
		}
	}
	var out []Op
	for _, o := range ops {
		l := e.life(o.Name, o.Entry)
		gone := l != nil && l.deleted != 0
		switch {
		case o.Outcome == Failed || void[o.Hold]:
			continue
		case o.Outcome == Unknown && (o.Kind == Acquire || o.Kind == Read):
			continue // nobody acted on it
		case o.Kind == Acquire && !over[o.Hold]:
			return nil, fmt.Errorf("history: %q: nobody told the end of %v", o.Name, o)
		case o.Kind == Release && gone && l.evicted:
			o.Call, o.Return, o.Outcome = min(o.Call, l.goneAt), max(o.Call, o.Return, l.goneAt), OK
		case o.Outcome == Unknown && gone:
			o.Return, o.Outcome = max(o.Call, l.goneAt), OK
		case o.Outcome == Unknown:
			return nil, fmt.Errorf("history: %q: no evidence closes %v", o.Name, o)
		}
		out = append(out, o)
	}
	return out, nil
}

// reigns are the changes of who is first under a name, as operations. Each happened when the watch told it, or as long
// before as that may lag.
func (e *Evidence) reigns(name string) []Op {
	e.mu.Lock()
	defer e.mu.Unlock()
	type change struct {
		rev, at int64
		life    *life
		gone    bool
	}
	var changes []change
	for _, l := range e.lives {
		if l.name != name {
			continue
		}
		changes = append(changes, change{l.created, l.createdAt, l, false})
		if l.deleted != 0 {
			changes = append(changes, change{l.deleted, l.goneAt, l, true})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.rev, b.rev) })

	var (
		out   []Op
		queue []int64 // the entries that stand, by creation
		first int64
	)
	for i, c := range changes {
		if c.gone {
			queue = slices.DeleteFunc(queue, func(created int64) bool { return created == c.life.created })
		} else {
			queue = append(queue, c.life.created)
		}
		if i+1 < len(changes) && changes[i+1].rev == c.rev {
			continue // of one transaction
		}
		now := int64(0)
		if len(queue) > 0 {
			now = queue[0]
		}
		if now != first {
			out = append(out, Op{Kind: Lead, Name: name, Entry: now, before: first, Outcome: OK, Call: c.at - int64(e.Lag), Return: c.at})
			first = now
		}
	}
	return out
}
