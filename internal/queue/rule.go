package queue

import (
	"errors"
	"fmt"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Rule says when an entry may go in beside others. The rule of those without one is the
// plain one: when no older entry is left.
//
// What a rule says must stay true once it is, but for the changes of values that it
// allows for itself, whatever enters later: it is looked at once, and then stands for as
// long as the entry does.
type Rule struct {
	// Blocker returns the youngest entry that keeps own from going in, nil if none does.
	// An error is that it never will.
	Blocker func(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error)

	// younger says that younger entries too may keep it from going in.
	younger bool
	// any says that any entry's leaving may let it in, not only that of the blocker.
	any bool

	// side is a key beside the queue that is read when the entry is made, and heed is told
	// of it; it returns another value for the entry, if it must have one. Optional.
	side string
	heed func(side *mvccpb.KeyValue) (value string, changed bool)
}

// Shared is the rule of a reader: no older entry that does not share. A reader that is
// becoming a writer does, with those that came before its bound.
func Shared() *Rule {
	return &Rule{Blocker: func(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
		var blocker *mvccpb.KeyValue
		for _, o := range others {
			if o.CreateRevision < own.CreateRevision && !letsRead(o, own.CreateRevision) {
				blocker = younger(blocker, o)
			}
		}
		return blocker, nil
	}}
}

// letsRead tells whether an older entry lets one read that came at createRevision.
func letsRead(older *mvccpb.KeyValue, createRevision int64) bool {
	switch h := wire.Wants(older.Value); h.Mode {
	case wire.Shared:
		return true
	case wire.Upgrading:
		return createRevision < boundOf(older, h)
	default:
		return false
	}
}

func boundOf(kv *mvccpb.KeyValue, h wire.Holder) int64 {
	if h.Bound > 0 {
		return h.Bound
	}
	return kv.ModRevision
}

// sole is the rule of a reader that is becoming a writer: no other entry is left from
// before its bound.
func sole() *Rule {
	return &Rule{younger: true, Blocker: func(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
		var blocker *mvccpb.KeyValue
		bound := boundOf(own, wire.Wants(own.Value))
		for _, o := range others {
			if o.CreateRevision < bound {
				blocker = younger(blocker, o)
			}
		}
		return blocker, nil
	}, any: true}
}

// LimitError says that two entries of one queue do not agree about its limit.
type LimitError struct{ Theirs, Ours int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the limit is %d for who is here already, and %d for this one", e.Theirs, e.Ours)
}

// ErrTooMuch: more permits are wanted than there are.
var ErrTooMuch = errors.New("more permits than the limit")

// Permits is the rule of a semaphore: what all older entries want, those that wait
// included, and what this one does, is no more than the limit. So a large one that waits
// is not passed by small ones that come later.
//
// The limit is the smallest of which the entries say that it was changed by order, or
// else the one that all agree on. side is the key where such an order stands, and heed
// is told of it.
func Permits(side string, heed func(side *mvccpb.KeyValue) (value string, changed bool)) *Rule {
	return &Rule{any: true, side: side, heed: heed, Blocker: permitsBlocker}
}

func permitsBlocker(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	mine := wire.Wants(own.Value)
	limit, wanted, alone := mine.Limit, mine.Permits, false
	var last *mvccpb.KeyValue
	for _, o := range others {
		if o.CreateRevision > own.CreateRevision {
			continue
		}
		last = younger(last, o)
		theirs := wire.Wants(o.Value)
		if theirs.Mode != wire.Counted {
			alone = true // it wants everything, or to share it with its like
			continue
		}
		if theirs.Limit != mine.Limit && !theirs.Ordered && !mine.Ordered {
			return nil, &LimitError{Theirs: theirs.Limit, Ours: mine.Limit}
		}
		limit = min(limit, theirs.Limit)
		wanted = sum(wanted, theirs.Permits)
	}
	switch {
	case mine.Permits > mine.Limit:
		return nil, fmt.Errorf("%w: %d of %d", ErrTooMuch, mine.Permits, mine.Limit)
	case alone || wanted > limit:
		return last, nil
	default:
		return nil, nil
	}
}

// sum adds what two want, neither of which is negative. A key may say any number: one that
// is too large must not come out as none.
func sum(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

// hasSide tells whether there is a key beside the queue to be read.
func (r *Rule) hasSide() bool { return r != nil && r.side != "" }

// anyOf tells whether any entry's leaving may matter, so that all of them are watched.
func (r *Rule) anyOf() bool { return r != nil && r.any }

// filter is what need not be heard of the one ahead: for the plain rule, what it writes.
func (r *Rule) filter() []clientv3.OpOption {
	if r == nil {
		return []clientv3.OpOption{clientv3.WithFilterPut()}
	}
	return nil
}

// ownRead is how the own key is read: for the plain rule, that it is there will do.
func (r *Rule) ownRead() []clientv3.OpOption {
	if r == nil {
		return []clientv3.OpOption{clientv3.WithKeysOnly()}
	}
	return nil
}

func younger(a, b *mvccpb.KeyValue) *mvccpb.KeyValue {
	if a == nil || b.CreateRevision > a.CreateRevision {
		return b
	}
	return a
}

// blocker is the entry that keeps e from going in; nil if none does. own is e's key, and
// all are the entries of the queue, at one revision, with or without own.
func (e *Entry) blocker(own *mvccpb.KeyValue, all []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	others := make([]*mvccpb.KeyValue, 0, len(all))
	for _, kv := range all {
		if string(kv.Key) != e.Key {
			others = append(others, kv)
		}
	}
	return e.rule.Blocker(own, others)
}
