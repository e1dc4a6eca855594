package local

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// title is what an ownership and its holds have in common: by what the lock is owned, and until when.
// It needs no mutex.
type title struct {
	lease *lease.Lease
	entry *queue.Entry
	local *Queue // of the names that are owned

	life   lazyctx.Context // ends with the lease; all holds of the ownership end with it
	lostAt atomic.Int64    // when it was lost alone, by the session's clock; 0 if it was not
}

// loseAlone notes that the ownership is lost for a cause, while its lease may live. It returns false if
// that was noted before.
func (t *title) loseAlone(cause error) (first bool) {
	first = t.lostAt.CompareAndSwap(0, max(int64(t.clock()), 1))
	t.life.Cancel(cause)
	return first
}

// partOf is which part of the entry has one of the names that are owned.
func (t *title) partOf(name string) int { return slices.Index(t.local.Names(), name) }

// remaining is the time until the ownership ends unless its lease is renewed before. After its end
// it is negative: how long ago that was.
func (t *title) remaining() time.Duration {
	left := t.lease.Remaining()
	if at := t.lostAt.Load(); at != 0 {
		left = min(left, time.Duration(at)-t.clock())
	}
	return left
}

// clock is the time by the session's clock.
func (t *title) clock() time.Duration { return t.local.table.cfg.Clock() }

// kind is what is held by the ownership.
func (t *Ownership) kind() string {
	switch {
	case t.candidate:
		return "election"
	case t.mode() == wire.Shared:
		return "read lock"
	case t.mode() == wire.Counted:
		return "permits of"
	default:
		return "lock"
	}
}

func (t *title) names() string {
	if len(t.local.Names()) > 1 {
		return wire.QuoteAll(t.local.Names())
	}
	return wire.Quote(t.local.Name())
}

// lasted is how long it has lasted since a time, or until its end. A process that was paused notices
// the end late.
func (t *title) lasted(since time.Duration) time.Duration {
	return (t.clock() - since + min(t.remaining(), 0)).Round(time.Millisecond)
}

// endedAgo says when it ended, if that was a second ago or longer.
func (t *title) endedAgo() string {
	ago := -t.remaining()
	if ago < time.Second {
		return ""
	}
	return fmt.Sprintf(", ended %v ago", ago.Round(time.Millisecond))
}

// loss is an ownership that was lost.
type loss struct {
	title *title
	kind  string
	token int64
	since time.Duration // by the session's clock
}

func (o loss) String() string {
	return fmt.Sprintf("%s %s, token %d, held for %v%s", o.kind, o.title.names(), o.token, o.title.lasted(o.since), o.title.endedAgo())
}

// logLost reports ownerships that are lost for one cause, with their keys gone and their leases alive. Few of them
// have a line each, with the key, and many have one line.
func logLost(log *zap.Logger, all []loss, cause error) {
	if len(all) > MostLost {
		log.Warn("holds are lost: another client has deleted their keys",
			zap.Int("holds", len(all)), zap.Strings("lost", describe(all)), zap.Error(cause))
		return
	}
	for _, o := range all {
		log.Warn("a hold is lost: another client has deleted its key",
			zap.String(o.kind, o.title.names()), zap.String("key", wire.Quote(o.title.entry.Key)), zap.Int64("token", o.token),
			zap.Duration("held", o.title.lasted(o.since)), zap.Error(cause))
	}
}
