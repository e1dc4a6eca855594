package queue

import (
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Want is what an entry is to be.
type Want struct {
	Lease clientv3.LeaseID
	Slot  wire.Slot // which of the keys that the lease can have in the queue
	Value string    // of the key
	Rule  *Rule     // nil for an exclusive entry

	Candidate bool // true for a candidate of an election, see prefer.go
	Keeps     bool // true if the key may be kept until another entry comes, see Stay
}

// heed takes in the key that read has read, from the last response of a refused transaction, and changes
// the value accordingly.
func (w *Want) heed(refused *clientv3.TxnResponse) {
	if side := w.Rule.beside(); side != nil {
		w.Value = side.Heed(only(refused.Responses[len(refused.Responses)-1].GetResponseRange().Kvs))
	}
}

// Entry is our key in the queue.
type Entry struct {
	Key            string
	Lease          clientv3.LeaseID
	CreateRevision int64

	wish
	atEntry *seen // nil if the transaction saw no older entry; see saw
	since
	parts *[]*Entry // of an entry in several queues, one for each; nil for an entry in one
}

// wish is what an entry was to be, and what the transaction saw that wrote its key.
type wish struct {
	rule *Rule // nil for an exclusive entry
	// value is what the key was written with. If made is not 0, that is made again, see MadeOf.
	value string
	made  int64

	candidate, keeps bool // see Want
	marked           bool // true if it has an inbox, see turn.go
	first            bool // true if there was no older entry when the key was written; then none can come
	asleep           bool // true while it waits for a message only, see turn.go
	adopted          bool // true if the key existed before it was to be written
}

// seen is what the transaction saw that wrote the key of an entry.
type seen struct {
	// ahead is the youngest of the older entries, and older is their number, if the transaction saw all
	// of them.
	ahead *mvccpb.KeyValue
	older int
	count int64 // of the older entries, also if only a part of them was read; 0 if none was
	// guesses is for how many entries in a row count was not read, see LeaveAndEnter.
	guesses int
}

// sees notes what the transaction saw that wrote the key.
func (e *Entry) sees(s seen) {
	if e.atEntry = nil; s != (seen{}) {
		e.atEntry = &s
	}
}

// saw returns what the transaction saw that wrote the key.
func (e *Entry) saw() seen {
	if e.atEntry == nil {
		return seen{}
	}
	return *e.atEntry
}

// since is what was learned of an entry since then. It is safe for concurrent use.
type since struct {
	modRevision atomic.Int64             // of the last write of the key that is known
	rewritten   atomic.Pointer[string]   // the value that we have written last; nil if it is the first one
	obstacle    atomic.Pointer[Obstacle] // the entry that was last seen to block this one; nil for none
	touched     atomic.Bool              // true if another client has written the key, see successor
	behind      atomic.Pointer[behind]   // of a marked one: what it was told, and its token; nil for nothing
}

func newEntry(key string, w Want, createRevision int64) *Entry {
	e := &Entry{Key: key, Lease: w.Lease, CreateRevision: createRevision}
	e.wish = wish{rule: w.Rule, value: w.Value, candidate: w.Candidate, keeps: w.Keeps, marked: w.Slot.Marked()}
	e.modRevision.Store(createRevision)
	return e
}

// adopt makes an entry of our own key that exists already, by an earlier try without an answer or by a
// lease that was taken over. Its place in the queue is ours. The key is rewritten afterwards, for
// its value. The revision of this write also gives a hold that was taken over a larger token.
func adopt(key string, w Want, kvs []*mvccpb.KeyValue) *Entry {
	e := newEntry(key, w, kvs[0].CreateRevision)
	e.adopted = true
	e.wrote(kvs[0].ModRevision)
	e.touched.Store(kvs[0].ModRevision > kvs[0].CreateRevision)
	return e
}

// First reports whether no older entry was there when the key was written.
func (e *Entry) First() bool { return e.first }

// Ahead returns how many older entries were there when the key was written, as far as that is known.
func (e *Entry) Ahead() (n int) {
	for _, part := range e.Parts() {
		n = max(n, int(part.saw().count))
	}
	return n
}

// Adopted reports whether the key existed before it was to be written.
func (e *Entry) Adopted() bool { return e.adopted }

// Parts returns the entries in the single queues, in the order of the names. An entry in one queue is its
// own only part.
func (e *Entry) Parts() []*Entry {
	if e.parts == nil {
		return []*Entry{e}
	}
	return *e.parts
}

// name returns the name of the queue that the key is in.
func (e *Entry) name() string {
	name, _ := wire.NameOf(e.Key)
	return name
}

// Guard is a comparison that holds while this entry stands. A later entry of the same session has
// the same key, but another CreateRevision.
func (e *Entry) Guard() clientv3.Cmp {
	return created(e.Key, e.CreateRevision)
}

// standsIn reports whether the key of the entry, as it was read, is that of this entry.
func (e *Entry) standsIn(own *mvccpb.KeyValue) bool {
	return own != nil && own.CreateRevision == e.CreateRevision
}

// deleted reports whether events prove that the entry was deleted. clientv3 opens a watch that breaks
// before its first event again from the revision of its creation. So an event may be older than the
// entry.
func deleted(events []*clientv3.Event, e *Entry) bool {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete && string(ev.Kv.Key) == e.Key && ev.Kv.ModRevision > e.CreateRevision {
			return true
		}
	}
	return false
}

// wrote notes the revision of a write of the key.
func (e *Entry) wrote(rev int64) {
	for {
		last := e.modRevision.Load()
		if rev <= last || e.modRevision.CompareAndSwap(last, rev) {
			return
		}
	}
}

// kv returns the entry's key as it was written with this value.
func (e *Entry) kv(value string) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(e.Key), Value: []byte(value), Lease: int64(e.Lease),
		CreateRevision: e.CreateRevision, ModRevision: e.modRevision.Load(),
	}
}

// MadeOf has the value of the key made again when it is needed: of an identity at a time, in nanoseconds
// since 1970. A string for each entry would take more room. It is called before other goroutines have the
// entry.
func (e *Entry) MadeOf(by wire.Identity, at int64) { e.value, e.made = string(by), at }

// KV returns the entry's key as this process has written it.
func (e *Entry) KV() *mvccpb.KeyValue {
	switch rewritten := e.rewritten.Load(); {
	case rewritten != nil:
		return e.kv(*rewritten)
	case e.made != 0:
		return e.kv(wire.Identity(e.value).Since(time.Unix(0, e.made).UTC(), ""))
	default:
		return e.kv(e.value)
	}
}

// token returns the revision at which a marked entry was the oldest one of its queue, as it is then for as long
// as it stands. It returns 0 if the entry was not granted.
func (e *Entry) token() int64 {
	if e.first {
		return e.CreateRevision
	}
	if told := e.behind.Load(); told != nil {
		return told.token
	}
	return 0
}

// grantMarked notes the token of a marked entry that has waited.
func (e *Entry) grantMarked(rev int64) {
	var told behind
	if last := e.behind.Load(); last != nil {
		told = *last
	}
	told.token = rev
	e.behind.Store(&told)
}

// Marked reports whether the next entry is told when this one leaves, also if another client has deleted it.
func (e *Entry) Marked() bool { return e.marked }

// plain reports whether nothing matters to an entry but that older ones leave.
func (e *Entry) plain() bool { return e.rule == nil && !e.candidate && !e.keeps }

// Obstacle is an entry that another one waits for, as it was read for other reasons, or by Foresee.
type Obstacle struct {
	KV    *mvccpb.KeyValue // nil if none is known
	Whole bool             // true if its value and its lease were read, and not only its key
	Holds bool             // true if it holds, or is about to

	foreseen bool // true if it was read for the error of a wait, see Foresee
}

// Obstacle returns the entry that this one was last seen to wait for: the oldest entry if all were read,
// and otherwise the one next ahead. It is safe for concurrent use.
func (e *Entry) Obstacle() Obstacle {
	for _, part := range e.Parts() { // the first ones are granted, and wait for no entry
		if o := part.obstacle.Load(); o != nil {
			return *o
		}
	}
	return Obstacle{}
}

// writtenAgain notes our write of another value at a revision.
func (e *Entry) writtenAgain(rev int64, value *string) {
	e.wrote(rev)
	e.rewritten.Store(value)
}

// waitsFor notes the entry that this one waits for.
func (e *Entry) waitsFor(o Obstacle) {
	if last := e.obstacle.Load(); last == nil || *last != o {
		e.obstacle.Store(&o)
	}
}
