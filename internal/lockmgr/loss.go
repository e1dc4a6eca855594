package lockmgr

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// MostLost is how many lost holds are named in one line of the log.
const MostLost = 10

// noteLoss notes an ownership that was held when the present lease ended, once. LeaseLost calls it for
// each ownership that is left then, and whatever forgets an ownership before that. Called with m.mu held.
func (m *Manager) noteLoss(t *ownership) {
	if t != nil && !t.noted && t.holders > 0 && t.lease == m.lease.Load() && t.lease.Context().Err() != nil && m.cfg.Life.Err() == nil {
		t.noted = true
		m.losses.add(t)
		m.counts.losing(t.holders)
	}
}

// losses are the ownerships that were held when the present lease ended. Manager.mu guards them.
type losses struct{ noted []*ownership }

func (s *losses) add(t *ownership) { s.noted = append(s.noted, t) }

// take returns all of them, and forgets them.
func (s *losses) take() (all []*ownership) {
	all, s.noted = s.noted, nil
	return all
}

// describe describes lost ownerships for the log, the oldest first.
func describe(all []*ownership) []string {
	var told []string
	slices.SortFunc(all, func(a, b *ownership) int { return cmp.Compare(a.token, b.token) })
	for i, t := range all {
		if i == MostLost {
			return append(told, fmt.Sprintf("and %d more", len(all)-i))
		}
		told = append(told, fmt.Sprintf("%s %s, token %d, held for %v%s", t.kind(), t.names(), t.token, t.lasted(), t.endedAgo()))
	}
	return told
}

// kind is what is held by the ownership.
func (t *ownership) kind() string {
	switch {
	case t.candidate:
		return "election"
	case t.mode == wire.Shared:
		return "read lock"
	case t.mode == wire.Counted:
		return "permits of"
	default:
		return "lock"
	}
}

func (t *ownership) names() string {
	if len(t.local.names) > 1 {
		return wire.QuoteAll(t.local.names)
	}
	return wire.Quote(t.local.names[0])
}

// lasted is how long the ownership has lasted so far, or until its end. A process that was paused
// notices the end late.
func (t *ownership) lasted() time.Duration {
	return (t.local.manager.cfg.Clock() - t.since + min(t.remaining(), 0)).Round(time.Millisecond)
}

// endedAgo says when the ownership ended, if that was a second ago or longer.
func (t *ownership) endedAgo() string {
	ago := -t.remaining()
	if ago < time.Second {
		return ""
	}
	return fmt.Sprintf(", ended %v ago", ago.Round(time.Millisecond))
}

// logEviction reports an ownership when its key is gone and its lease lives.
func (t *ownership) logEviction(cause error) {
	t.local.manager.cfg.Log.Warn("a hold is lost: another client has deleted its key",
		zap.String(t.kind(), t.names()), zap.String("key", wire.Quote(t.entry.Key)), zap.Int64("token", t.token),
		zap.Duration("held", t.lasted()), zap.Error(cause))
}
