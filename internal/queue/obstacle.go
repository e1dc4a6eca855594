package queue

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/admission"
)

// Obstacle is an entry that is in the way of another one, as far as it was read for other reasons:
// nothing is asked for it.
type Obstacle struct {
	KV    *mvccpb.KeyValue // nil: none is known
	Whole bool             // its value and its lease were read, and not only its key
	Holds bool             // it holds, or is about to
}

// TakenError is ErrTaken, with the entry that was found.
type TakenError struct{ Obstacle }

func (e *TakenError) Error() string { return ErrTaken.Error() }
func (e *TakenError) Unwrap() error { return ErrTaken }

// Obstacle is the entry that this one was last seen to wait for: the oldest one of all where all
// of them are read, else the one next ahead. It is for any goroutine.
func (e *Entry) Obstacle() Obstacle {
	for _, part := range e.Parts() { // those in front are granted, and wait for nobody
		if o := part.obstacle.Load(); o != nil {
			return *o
		}
	}
	return Obstacle{}
}

// waitsFor takes note of the entry that this one waits for.
func (e *Entry) waitsFor(o Obstacle) {
	if last := e.obstacle.Load(); last == nil || *last != o {
		e.obstacle.Store(&o)
	}
}

// KV is the entry's key as this process has written it.
func (e *Entry) KV() *mvccpb.KeyValue {
	value := e.value
	if rewritten := e.rewritten.Load(); rewritten != nil {
		value = *rewritten
	}
	return e.kv(value)
}

// obstacle is the entry to be named as in the way of e, of all those in a view: next is the youngest
// that blocks it. A reader names that one, as older readers do not block it.
func (c *rangeCache) obstacle(e *Entry, next *mvccpb.KeyValue) Obstacle {
	if first := c.first(); first != nil && first.CreateRevision < e.CreateRevision && admission.BlockedByEachOlder(e.rule.mode()) {
		return Obstacle{KV: first, Whole: !c.keysOnly, Holds: true}
	}
	return Obstacle{KV: next, Whole: !c.keysOnly}
}

// refusedBy is the error of a try that has found others; blocker is one that blocks it. all says that
// these are all the entries there are.
func (q *Queue) refusedBy(e *Entry, blocker *mvccpb.KeyValue, others []*mvccpb.KeyValue, all bool) error {
	for _, kv := range others {
		if err := q.nested(kv, nil); err != nil {
			return err
		}
	}
	taken := &TakenError{}
	if !all {
		return taken // which of them holds is not known
	}
	for _, c := range Contenders(q.name, others) {
		holds := len(c.Ahead) == 0
		if admission.BlockedByEachOlder(e.rule.mode()) && holds || same(c.KeyValue, blocker) {
			taken.Obstacle = Obstacle{KV: c.KeyValue, Whole: true, Holds: holds}
			break
		}
	}
	return taken
}
