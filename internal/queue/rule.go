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

	// side is what the value of the entry depends on beside the queue; nil if on nothing.
	side *Side
}

// Side is a key beside a queue on which the value of an entry depends. The value is only
// written while the key is as it was known when the value was made: so whoever changes the
// key, and then the entries that are there, has changed all that there will be.
type Side struct {
	Key string
	// Known is the revision of the last change of the key that was heeded; 0 for no key.
	Known func() int64
	// Heed takes note of the key as it is, nil for none, and returns the value that the entry
	// is to have.
	Heed func(*mvccpb.KeyValue) (value string)
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
		wants := wire.Wants(own.Value)
		if wants.Mode != wire.Upgrading {
			return nil, ErrOverwritten
		}
		bound := boundOf(own, wants)
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
// else the one that all agree on. side is the key where such an order stands.
func Permits(side *Side) *Rule {
	return &Rule{any: true, side: side, Blocker: permitsBlocker}
}

func permitsBlocker(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	mine := wire.Wants(own.Value)
	if mine.Mode != wire.Counted {
		return nil, ErrOverwritten
	}
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

// read is what a transaction reads that was refused, for heed.
func (s *Side) read() []clientv3.Op {
	if s == nil {
		return nil
	}
	return []clientv3.Op{clientv3.OpGet(s.Key)}
}

// asKnown is what a transaction compares that writes the value.
func (s *Side) asKnown() []clientv3.Cmp {
	if s == nil {
		return nil
	}
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.Key), "=", s.Known())}
}

// heed takes note of what read has read, in the last response of a refused transaction, and
// changes the value accordingly.
func (w *Want) heed(refused *clientv3.TxnResponse) {
	if side := w.Rule.beside(); side != nil {
		w.Value = side.Heed(youngest(refused.Responses[len(refused.Responses)-1].GetResponseRange().Kvs))
	}
}

// beside is the key beside the queue; nil for none.
func (r *Rule) beside() *Side {
	if r == nil {
		return nil
	}
	return r.side
}

// anyOf tells whether any entry's leaving may matter, so that all of them are watched.
func (r *Rule) anyOf() bool { return r != nil && r.any }

// filter is what need not be heard of the one ahead: for the plain rule, what it writes.
func (r *Rule) filter() []clientv3.OpOption {
	if r == nil {
		return []clientv3.OpOption{clientv3.WithFilterPut()}
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
	blocker, err := e.rule.Blocker(own, others)
	if blocker == nil && err == nil {
		blocker = e.nested(others)
	}
	return blocker, err
}

// nested is an older entry that shows that another name lies inside this one; nil if there
// is none. Nobody goes in past it, whatever it wants.
func (e *Entry) nested(others []*mvccpb.KeyValue) *mvccpb.KeyValue {
	name, _ := wire.NameOf(e.Key)
	for _, o := range others {
		if _, nested := wire.Nested(name, string(o.Key)); nested && o.CreateRevision < e.CreateRevision {
			return o
		}
	}
	return nil
}
