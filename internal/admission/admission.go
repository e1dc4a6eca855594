// Package admission has the rules of a queue: which entries block an entry, and in which order
// candidates lead. It makes no requests and holds no state. Package queue reads entries in etcd, asks
// for a verdict, and acts on it.
//
// An entry is a key in the queue. Its age is the CreateRevision of the key. An entry is admitted,
// so that its owner holds, when no entry blocks it:
//
//	mode       blocked by
//	exclusive  every older entry
//	shared     an older exclusive or counted entry, or an older upgrading entry that does not let it in
//	counted    every older entry, unless its permits and theirs are within the limit
//	upgrading  every entry that is older than its bound
//	any        an older entry of a name inside the name of the queue
//
// An upgrading entry is a reader that is becoming a writer. Its bound separates the readers that it
// lets in, and waits for, from the entries that wait for it; see [NextUpgradeStep].
//
// A waiting entry blocks as a holder does, so a waiter is never overtaken: not a writer by a later
// reader, nor a large request for permits by a later small one.
package admission

import (
	"errors"
	"fmt"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Entry is an entry of a queue as the rules see it. The zero value of a field is right wherever a
// rule does not look at that field: an exclusive entry is judged by ages alone.
type Entry struct {
	Created  int64 // the age; no two entries of a queue have the same
	Modified int64 // ModRevision of the key

	Mode    wire.Mode
	Bound   int64 // of an upgrading entry; 0 until it is known
	Permits int   // of a counted entry
	Limit   int   // of a counted entry, as its session knows it
	Ordered bool  // the limit was set by SetLimit, and overrides the limits of other entries

	Nested bool // the key belongs to a name inside the name of the queue

	Priority  int   // of a candidate
	Takeover  bool  // the candidate preempts leaders of a lower priority
	Successor int64 // revision of the oldest successor key that names the candidate; 0 for none
}

// None is the index of no entry.
const None = -1

// LimitError says that two entries of one queue do not agree about its limit.
type LimitError struct{ Theirs, Ours int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the limit is %d for an older entry, and %d for this one", e.Theirs, e.Ours)
}

// ErrTooMuch is the error of a request for more permits than the limit.
var ErrTooMuch = errors.New("more permits than the limit")

// Blocker returns the index of the entry that blocks own, the youngest of several, and None if own is
// admitted. all may be in any order, with or without own.
//
// A [LimitError] or [ErrTooMuch] says that own will not be admitted as it is.
func Blocker(own Entry, all []Entry) (int, error) {
	fits, err := own.fits(all)
	if err != nil {
		return None, err
	}
	blocker := None
	for i := range all {
		if own.blockedBy(&all[i], fits) && (blocker == None || all[i].Created > all[blocker].Created) {
			blocker = i
		}
	}
	return blocker, nil
}

// Lineup returns, for each entry of a whole queue, the indices of the entries that block it, youngest
// first. all is in order of age. An entry without blockers holds, or is about to.
//
// The list ends at an entry that is itself blocked by every older entry: it blocks on behalf of
// these. So the lists are short in a long queue.
func Lineup(all []Entry) [][]int {
	blockers := make([][]int, len(all))
	for i := range all {
		e := &all[i]
		fits, _ := e.fits(all[:i])
		from := i - 1
		if BlockedByYounger(e.Mode) {
			from = len(all) - 1
		}
		for j := from; j >= 0; j-- {
			o := &all[j]
			if !e.blockedBy(o, fits) {
				continue
			}
			blockers[i] = append(blockers[i], j)
			if o.Mode == wire.Exclusive || o.Mode == wire.Counted && len(blockers[j]) > 0 {
				break
			}
		}
	}
	return blockers
}

// blockedBy reports whether another entry blocks e. fits is the result of [Entry.fits].
func (e *Entry) blockedBy(o *Entry, fits bool) bool {
	older := o.Created < e.Created
	switch {
	case older && o.Nested:
		return true
	case e.Mode == wire.Counted:
		return older && !fits
	case e.Mode == wire.Upgrading:
		return o.Created < e.bound() && o.Created != e.Created
	case e.Mode == wire.Shared:
		return older && !o.admitsReader(e)
	default:
		return older
	}
}

// admitsReader reports whether a reader is admitted beside an older entry.
func (e *Entry) admitsReader(reader *Entry) bool {
	switch e.Mode {
	case wire.Shared:
		return true
	case wire.Upgrading:
		return reader.Created < e.bound()
	default:
		return false
	}
}

// fits reports whether the sum of the permits of a counted entry and of all older entries, waiters
// included, is within the limit. It returns false for entries of other modes. The limit is the
// smallest one that SetLimit has set, or otherwise the one that all entries agree on.
func (e *Entry) fits(all []Entry) (bool, error) {
	if e.Mode != wire.Counted {
		return false, nil
	}
	limit, wanted, countedOnly := e.Limit, int64(e.Permits), true
	var disagrees error
	for i := range all {
		o := &all[i]
		switch {
		case o.Created >= e.Created:
		case o.Mode != wire.Counted:
			countedOnly = false
		default:
			if o.Limit != e.Limit && !o.Ordered && !e.Ordered && disagrees == nil {
				disagrees = &LimitError{Theirs: o.Limit, Ours: e.Limit}
			}
			limit = min(limit, o.Limit)
			wanted += int64(o.Permits)
		}
	}
	if disagrees == nil && e.Permits > e.Limit {
		return false, fmt.Errorf("%w: %d of %d", ErrTooMuch, e.Permits, e.Limit)
	}
	return countedOnly && wanted <= int64(limit), disagrees
}

// The functions below tell a waiter what it has to read and watch.

// BlockedByYounger reports whether younger entries can block an entry of a mode.
func BlockedByYounger(mode wire.Mode) bool { return mode == wire.Upgrading }

// BlockedByEachOlder reports whether a blocked entry of a mode is blocked by every older entry. The
// oldest entry, which holds, is then one of its blockers.
func BlockedByEachOlder(mode wire.Mode) bool { return mode == wire.Exclusive || mode == wire.Counted }

// AnyMayAdmit reports whether an entry of a mode may be admitted when an entry other than its youngest
// blocker leaves.
func AnyMayAdmit(mode wire.Mode) bool { return mode == wire.Counted }

// ByAgeAlone reports whether only the ages of other entries decide about an entry of a mode, and not
// their values.
func ByAgeAlone(mode wire.Mode) bool { return mode == wire.Exclusive }
