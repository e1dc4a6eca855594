package queue

// The rules as they stood here, to be compared with those of package admission.

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/wire"
)

var errOldOverwritten = fmt.Errorf("overwritten")

func oldShared(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	var blocker *mvccpb.KeyValue
	for _, o := range others {
		if o.CreateRevision < own.CreateRevision && !oldLetsRead(o, own.CreateRevision) {
			blocker = oldYounger(blocker, o)
		}
	}
	return blocker, nil
}

func oldLetsRead(older *mvccpb.KeyValue, createRevision int64) bool {
	switch h := wire.Wants(older.Value); h.Mode {
	case wire.Shared:
		return true
	case wire.Upgrading:
		return createRevision < oldBoundOf(older, h)
	default:
		return false
	}
}

func oldBoundOf(kv *mvccpb.KeyValue, h wire.Holder) int64 {
	if h.Bound > 0 {
		return h.Bound
	}
	return kv.ModRevision
}

func oldSole(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	var blocker *mvccpb.KeyValue
	wants := wire.Wants(own.Value)
	if wants.Mode != wire.Upgrading {
		return nil, errOldOverwritten
	}
	bound := oldBoundOf(own, wants)
	for _, o := range others {
		if o.CreateRevision < bound {
			blocker = oldYounger(blocker, o)
		}
	}
	return blocker, nil
}

func oldPermits(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	mine := wire.Wants(own.Value)
	limit, wanted, alone := mine.Limit, mine.Permits, false
	var last *mvccpb.KeyValue
	for _, o := range others {
		if o.CreateRevision > own.CreateRevision {
			continue
		}
		last = oldYounger(last, o)
		theirs := wire.Wants(o.Value)
		if theirs.Mode != wire.Counted {
			alone = true
			continue
		}
		if theirs.Limit != mine.Limit && !theirs.Ordered && !mine.Ordered {
			return nil, &admission.LimitError{Theirs: theirs.Limit, Ours: mine.Limit}
		}
		limit = min(limit, theirs.Limit)
		wanted = oldSum(wanted, theirs.Permits)
	}
	switch {
	case mine.Mode != wire.Counted:
		return nil, errOldOverwritten
	case mine.Permits > mine.Limit:
		return nil, fmt.Errorf("%w: %d of %d", admission.ErrTooMuch, mine.Permits, mine.Limit)
	case alone || wanted > limit:
		return last, nil
	default:
		return nil, nil
	}
}

func oldSum(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}

func oldYounger(a, b *mvccpb.KeyValue) *mvccpb.KeyValue {
	if a == nil || b.CreateRevision > a.CreateRevision {
		return b
	}
	return a
}

// oldPlain is mirror.ahead.
func oldPlain(own *mvccpb.KeyValue, others []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	var ahead *mvccpb.KeyValue
	for _, kv := range others {
		if kv.CreateRevision < own.CreateRevision && (ahead == nil || kv.CreateRevision > ahead.CreateRevision) {
			ahead = kv
		}
	}
	return ahead, nil
}

func oldBlocker(mode wire.Mode, own *mvccpb.KeyValue, all []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	rule := map[wire.Mode]func(*mvccpb.KeyValue, []*mvccpb.KeyValue) (*mvccpb.KeyValue, error){
		wire.Exclusive: oldPlain, wire.Shared: oldShared, wire.Counted: oldPermits, wire.Upgrading: oldSole,
	}[mode]
	others := make([]*mvccpb.KeyValue, 0, len(all))
	for _, kv := range all {
		if string(kv.Key) != string(own.Key) {
			others = append(others, kv)
		}
	}
	blocker, err := rule(own, others)
	if blocker == nil && err == nil {
		name, _ := wire.NameOf(string(own.Key))
		for _, o := range others {
			if _, nested := wire.Nested(name, string(o.Key)); nested && o.CreateRevision < own.CreateRevision {
				return o, nil
			}
		}
	}
	return blocker, err
}

type oldContender struct {
	*mvccpb.KeyValue
	Want  wire.Holder
	Ahead []*oldContender
}

func oldContenders(kvs []*mvccpb.KeyValue) []*oldContender {
	all := make([]*oldContender, 0, len(kvs))
	for _, kv := range kvs {
		all = append(all, &oldContender{KeyValue: kv, Want: wire.Wants(kv.Value)})
	}
	slices.SortFunc(all, func(a, b *oldContender) int {
		return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), cmp.Compare(string(a.Key), string(b.Key)))
	})
	for _, c := range all {
		c.lineUp(all)
	}
	return all
}

func (c *oldContender) lineUp(all []*oldContender) {
	before := c.CreateRevision
	if c.Want.Mode == wire.Upgrading {
		before = oldBoundOf(c.KeyValue, c.Want)
	}
	if c.Want.Mode == wire.Counted && c.fits(all) {
		return
	}
	for _, o := range slices.Backward(all) {
		if o == c || o.CreateRevision >= before || c.Want.Mode == wire.Shared && oldLetsRead(o.KeyValue, c.CreateRevision) {
			continue
		}
		c.Ahead = append(c.Ahead, o)
		if o.Want.Mode == wire.Exclusive || o.Want.Mode == wire.Counted && len(o.Ahead) > 0 {
			return
		}
	}
}

func (c *oldContender) fits(all []*oldContender) bool {
	limit := c.Want.Limit
	for _, o := range all {
		if o.CreateRevision < c.CreateRevision {
			if o.Want.Mode != wire.Counted {
				return false
			}
			limit = min(limit, o.Want.Limit)
		}
	}
	for _, o := range all {
		if o.CreateRevision < c.CreateRevision {
			if o.Want.Permits > limit {
				return false
			}
			limit -= o.Want.Permits
		}
	}
	return c.Want.Permits <= limit
}

// oldMarking is Entry.marked of an own key that stands.
func oldMarking(own *mvccpb.KeyValue, all []*mvccpb.KeyValue) (writer *mvccpb.KeyValue, done bool, err error) {
	mine := wire.Wants(own.Value)
	if mine.Mode != wire.Upgrading {
		return nil, false, nil
	}
	for _, kv := range all {
		theirs := wire.Wants(kv.Value)
		switch {
		case kv == own:
		case theirs.Mode == wire.Upgrading:
			if mine.Bound == 0 && (theirs.Bound > 0 || kv.ModRevision < own.ModRevision) {
				return writer, done, admission.ErrUpgrading
			}
		case theirs.Mode != wire.Shared && kv.CreateRevision < own.ModRevision && (writer == nil || kv.CreateRevision < writer.CreateRevision):
			writer = kv
		}
	}
	return writer, mine.Bound > 0 || writer == nil, nil
}

func oldNoneWaits(own string, all []*mvccpb.KeyValue) bool {
	none := true
	for _, kv := range all {
		mode := wire.Wants(kv.Value).Mode
		none = none && (mode == wire.Shared || string(kv.Key) == own)
	}
	return none
}

// oldMark is a mark: the entry that it names, and its revision.
type oldMark struct {
	of  *mvccpb.KeyValue
	rev int64
}

func oldRank(all []*mvccpb.KeyValue, marks []oldMark) []*mvccpb.KeyValue {
	all, marks = slices.Clone(all), slices.Clone(marks)
	slices.SortFunc(marks, func(a, b oldMark) int { return cmp.Compare(a.rev, b.rev) })
	place := map[string]int{}
	for i, by := range marks {
		if place[string(by.of.Key)] == 0 {
			place[string(by.of.Key)] = i - len(marks)
		}
	}
	if len(all) > 1 {
		slices.SortStableFunc(all[1:], func(a, b *mvccpb.KeyValue) int {
			return cmp.Or(
				cmp.Compare(place[string(a.Key)], place[string(b.Key)]),
				cmp.Compare(wire.Priority(string(b.Key)), wire.Priority(string(a.Key))),
			)
		})
	}
	return all
}

func oldMayLead(e *mvccpb.KeyValue, all []*mvccpb.KeyValue, marks []oldMark) bool {
	var next *mvccpb.KeyValue
	oldest := int64(math.MaxInt64)
	for _, by := range marks {
		if by.rev < oldest {
			next, oldest = by.of, by.rev
		}
	}
	if next != nil {
		return string(next.Key) == string(e.Key)
	}
	own := wire.Priority(string(e.Key))
	for _, kv := range all {
		if wire.Priority(string(kv.Key)) > own {
			return false
		}
	}
	return true
}

func oldRivals(e *mvccpb.KeyValue, all []*mvccpb.KeyValue) (rivals []*mvccpb.KeyValue) {
	own, _ := wire.Rank(string(e.Key))
	for _, kv := range all {
		if priority, takeover := wire.Rank(string(kv.Key)); takeover && priority > own {
			rivals = append(rivals, kv)
		}
	}
	return rivals
}
