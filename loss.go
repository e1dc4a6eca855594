package etcdlock

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// mostLost is how many lost holds are named in one line of the log.
const mostLost = 10

// noteLoss takes note of an ownership that ended with the session's lease, and is about to be
// forgotten, before leaseLost has told of it. Called with m.mu held.
func (m *manager) noteLoss(t *ownership) {
	if t.lease == m.lease.Load() && t.lease.Context().Err() != nil {
		m.losses = append(m.losses, t)
	}
}

// lostWith are the ownerships that were held when a lease ended, the oldest first. Called with
// m.mu held.
func (m *manager) lostWith(l *lease.Lease) []*ownership {
	all := m.losses
	m.losses = nil
	for _, line := range m.lines {
		if line.tenure != nil {
			all = append(all, line.tenure)
		}
	}
	for t := range m.beside {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	all = slices.DeleteFunc(all, func(t *ownership) bool { return t.lease != l || t.turns == 0 })
	slices.SortFunc(all, func(a, b *ownership) int { return cmp.Compare(a.token, b.token) })
	return all
}

// describe tells of lost ownerships, for the log.
func describe(all []*ownership) []string {
	var told []string
	for i, t := range all {
		if i == mostLost {
			return append(told, fmt.Sprintf("and %d more", len(all)-i))
		}
		told = append(told, fmt.Sprintf("%s %s, token %d, held for %v", t.kind(), t.names(), t.token, t.lasted()))
	}
	return told
}

// kind is what is held by the ownership.
func (t *ownership) kind() string {
	switch {
	case strings.HasPrefix(t.as, candidate):
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
	if len(t.line.names) > 1 {
		return wire.QuoteAll(t.line.names)
	}
	return wire.Quote(t.line.names[0])
}

// lasted is how long the ownership has lasted so far.
func (t *ownership) lasted() time.Duration { return time.Since(t.since).Round(time.Millisecond) }

// logEviction tells of an ownership whose key is gone while its lease lives.
func (t *ownership) logEviction(cause error) {
	m := t.line.manager
	m.mu.Lock()
	held := t.turns > 0
	m.mu.Unlock()
	if held && t.lease.Err() == nil {
		m.log.Warn("a hold is lost: another client has deleted its key",
			zap.String(t.kind(), t.names()), zap.String("key", wire.Quote(t.entry.Key)), zap.Int64("token", t.token),
			zap.Duration("held", t.lasted()), zap.Error(cause))
	}
}
