package admission

import (
	"errors"
	"slices"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// A reader that holds becomes a writer in two writes of its key. The first write announces the
// intent: from then on no later entry is admitted. The second write adds the bound, which is the age
// of the first waiting writer. Readers in front of this writer are admitted, or may be without knowing
// it yet. The upgrade lets them in and waits for them. All other entries wait for the upgrade. If no
// writer waits, the bound is the revision of the intent itself.
//
// So each entry gets the same answer at every revision at which it looks, and no two entries wait for
// each other. Of two intents the older one counts. An intent with a bound counts before one without,
// because it was found to be the older one.

// ErrUpgrading is the error of an upgrade while another reader is becoming a writer.
var ErrUpgrading = errors.New("another reader is already upgrading")

// bound is the bound of an upgrading entry.
func (e *Entry) bound() int64 {
	if e.Bound > 0 {
		return e.Bound
	}
	return e.Modified
}

// UpgradeStep is what a reader does next to become a writer.
type UpgradeStep int

// The steps.
const (
	AnnounceIntent UpgradeStep = iota // write the intent
	WriteBound                        // write the intent with a bound
	AwaitAdmission                    // wait until no entry blocks the upgrading entry
)

// NextUpgradeStep returns the next step of a reader, by its own entry and the whole queue as they were
// at one revision. For WriteBound, writer is the index of the writer that is to be the bound. The
// error is [ErrUpgrading] when another reader is ahead; then the intent is to be taken back.
func NextUpgradeStep(own Entry, all []Entry) (step UpgradeStep, writer int, err error) {
	if own.Mode != wire.Upgrading {
		return AnnounceIntent, None, nil
	}
	writer = None
	for i, o := range all {
		switch {
		case o.Created == own.Created || o.Mode == wire.Shared:
		case o.Mode == wire.Upgrading:
			if own.Bound == 0 && (o.Bound > 0 || o.Modified < own.Modified) {
				return AnnounceIntent, None, ErrUpgrading
			}
		case o.Created < own.Modified && (writer == None || o.Created < all[writer].Created):
			writer = i
		}
	}
	if own.Bound > 0 || writer == None {
		return AwaitAdmission, None, nil
	}
	return WriteBound, writer, nil
}

// OnlyReaders reports whether all entries other than own are readers that do not upgrade. A session
// may then admit further readers of its own by its own entry.
func OnlyReaders(own Entry, all []Entry) bool {
	return !slices.ContainsFunc(all, func(o Entry) bool { return o.Created != own.Created && o.Mode != wire.Shared })
}

// Becomes reports whether an entry may get another value and keep its place. A shared or counted entry
// must not change, because other entries may have been admitted beside it. The exception is a reader
// that takes back its intent to become a writer.
func Becomes(was, wanted wire.Holder) bool {
	return was.Mode == wire.Exclusive || was.Mode == wanted.Mode && was.Permits == wanted.Permits ||
		was.Mode == wire.Upgrading && wanted.Mode == wire.Shared
}
