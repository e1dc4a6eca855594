package local

import (
	"context"
	"slices"
	"sync"

	"github.com/etcdlock/etcdlock/internal/lockorder"
)

// holder is a caller that was granted, with all holds that calls under the context of its hold got.
// The last release of these ends the holder.
type holder struct {
	mu    *lockorder.Manager // that of the table, which guards the fields below
	holds int
	infos map[*holdInfo]struct{} // of waiting entries that say in etcd that their caller is this holder
}

// holdInfo is the part of a waiting entry that names the holds of its waiter. Other processes look for
// deadlocks by this part, and fail their waits, so it must not name a hold that has ended. The entry
// is written again when the waiter releases a hold, and when its place goes to the next waiter of the
// local queue. A key is not handed over in memory while an entry names its former holder.
type holdInfo struct {
	mu      sync.Mutex
	holders []*holder // that the entry may name; they may be of other tables than the waiter
	stale   bool
	disturb context.CancelCauseFunc // ends the wait, so that the entry is written again
}

// speaksOf sets the holders that the entry names from now on.
func (r *holdInfo) speaksOf(now []*holder) {
	r.mu.Lock()
	before := r.holders
	r.holders, r.stale = now, false
	r.mu.Unlock()
	for _, u := range now {
		u.named(r)
	}
	for _, u := range before {
		if !slices.Contains(now, u) {
			u.unnamed(r)
		}
	}
}

// named notes that an entry may name the holder.
func (u *holder) named(by *holdInfo) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.infos == nil {
		u.infos = make(map[*holdInfo]struct{})
	}
	u.infos[by] = struct{}{}
}

// unnamed notes that an entry names the holder no more.
func (u *holder) unnamed(by *holdInfo) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.infos, by)
}

// outdated makes the waiter write its entry again, if one waits.
func (r *holdInfo) outdated() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = true
	if r.disturb != nil {
		r.disturb(ErrOutdated)
	}
}

// wait returns a context that ends with ctx, and when the record is outdated.
func (r *holdInfo) wait(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stale {
		cancel(ErrOutdated)
	}
	r.disturb = cancel
	return ctx, cancel
}
