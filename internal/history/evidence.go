package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Evidence is the lifetimes of the keys under some names, as one watch reported them. The watch misses nothing and lasts
// from before the first operation until no key is left. Evidence is safe for concurrent use.
type Evidence struct {
	// Lag is the longest time from a change to its report by the watch. Set it before the first use.
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

// A life is the time of one key from its creation to its deletion.
type life struct {
	name, key         string
	created, deleted  int64 // revisions; deleted is 0 while it stands
	createdAt, goneAt int64
	evicted           bool
}

// NewEvidence returns empty evidence for the keys under these names. now is the clock of the operations.
func NewEvidence(now func() int64, names ...string) *Evidence {
	return &Evidence{names: names, now: now, byEntry: make(map[entry]*life), present: make(map[string]*life)}
}

// nameOf returns the longest of the names that key lies under.
func (e *Evidence) nameOf(key string) (string, bool) {
	best, found := "", false
	for _, n := range e.names {
		if strings.HasPrefix(key, n+"/") && (!found || len(n) > len(best)) {
			best, found = n, true
		}
	}
	return best, found
}

// Put is called for each write that the watch reports.
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

// Delete is called for each deletion that the watch reports. evicted is true if an administrator deleted the key or revoked
// its lease. The holder learns of it only afterwards, and the hold counts as ended at the deletion.
func (e *Evidence) Delete(key string, revision int64, evicted bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.present[key]; l != nil {
		l.deleted, l.goneAt, l.evicted = revision, e.now(), evicted
		delete(e.present, key)
	}
}

// life returns the life of the entry with this CreateRevision, nil if the watch reported no such entry.
func (e *Evidence) life(name string, created int64) *life {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byEntry[entry{name, created}]
}

// closed returns the history completed by the evidence, without the operations that had no effect.
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
			continue // no process acted on it
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

// reigns returns the changes of the first entry under a name, as operations. Each happened at most Lag before the watch
// reported it.
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
