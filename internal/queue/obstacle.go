package queue

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/admission"
)

// TakenError is ErrTaken, with the entry that was found.
type TakenError struct{ Obstacle }

func (e *TakenError) Error() string { return ErrTaken.Error() }
func (e *TakenError) Unwrap() error { return ErrTaken }

// refusedBy returns the error of a try that has found other entries. blocker blocks it. all is true if
// others are all entries of the queue.
func (l *line) refusedBy(rule *Rule, blocker *mvccpb.KeyValue, others []*mvccpb.KeyValue, all bool) error {
	for _, kv := range others {
		if err := l.nested(kv); err != nil {
			return err
		}
	}
	taken := &TakenError{}
	if !all {
		return taken // it is not known which entry holds
	}
	for _, c := range Contenders(l.name, others) {
		holds := len(c.Ahead) == 0
		if admission.BlockedByEachOlder(rule.mode()) && holds || same(c.KeyValue, blocker) {
			taken.Obstacle = Obstacle{KV: c.KeyValue, Whole: true, Holds: holds}
			break
		}
	}
	return taken
}
