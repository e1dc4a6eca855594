package queue

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/admission"
)

// Obstacle is an entry that another one waits for, as it was read for other reasons. No request is sent
// for it.
type Obstacle struct {
	KV    *mvccpb.KeyValue // nil if none is known
	Whole bool             // true if its value and its lease were read, and not only its key
	Holds bool             // true if it holds, or is about to
}

// TakenError is ErrTaken, with the entry that was found.
type TakenError struct{ Obstacle }

func (e *TakenError) Error() string { return ErrTaken.Error() }
func (e *TakenError) Unwrap() error { return ErrTaken }

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

// waitsFor notes the entry that this one waits for.
func (e *Entry) waitsFor(o Obstacle) {
	if last := e.obstacle.Load(); last == nil || *last != o {
		e.obstacle.Store(&o)
	}
}

// KV returns the entry's key as this process has written it.
func (e *Entry) KV() *mvccpb.KeyValue {
	value := e.value
	if rewritten := e.rewritten.Load(); rewritten != nil {
		value = *rewritten
	}
	return e.kv(value)
}

// obstacle returns the entry of the cache that e is reported to wait for. next is the youngest entry that
// blocks it. A reader is reported to wait for next, because older readers do not block it.
func (c *rangeCache) obstacle(e *Entry, next *mvccpb.KeyValue) Obstacle {
	if first := c.first(); first != nil && first.CreateRevision < e.CreateRevision && admission.BlockedByEachOlder(e.rule.mode()) {
		return Obstacle{KV: first, Whole: !c.keysOnly, Holds: true}
	}
	return Obstacle{KV: next, Whole: !c.keysOnly}
}

// refusedBy returns the error of a try that has found other entries. blocker blocks it. all is true if
// others are all entries of the queue.
func (q *Queue) refusedBy(e *Entry, blocker *mvccpb.KeyValue, others []*mvccpb.KeyValue, all bool) error {
	for _, kv := range others {
		if err := q.nested(kv, nil); err != nil {
			return err
		}
	}
	taken := &TakenError{}
	if !all {
		return taken // it is not known which entry holds
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
