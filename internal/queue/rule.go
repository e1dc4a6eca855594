package queue

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Rule is the rule by which an entry waits for others. It is nil for an exclusive entry. The rules are in
// package admission. This file reads entries for them.
//
// An entry that was admitted once is not checked again. Its hold lasts for as long as the entry stands.
type Rule struct {
	wants wire.Mode
	side  *Side // the key on which the value of the entry depends; nil if there is none
}

// Shared returns the rule of a reader.
func Shared() *Rule { return &Rule{wants: wire.Shared} }

// Permits returns the rule of a semaphore. side is the key with an order to change its limit.
func Permits(side *Side) *Rule { return &Rule{wants: wire.Counted, side: side} }

// mode returns the mode of the entries of a rule.
func (r *Rule) mode() wire.Mode {
	if r == nil {
		return wire.Exclusive
	}
	return r.wants
}

// Side is a key beside a queue on which the value of an entry depends. The value is written only while the
// key is as it was known when the value was made. So a process that changes the key, and then the entries
// that are there, has changed all entries that will ever come.
type Side struct {
	Key string
	// Known returns the revision of the last change of the key that was heeded, or 0 if there was no key.
	Known func() int64
	// Heed takes in the key, nil if there is none, and returns the value that the entry is to have.
	Heed func(*mvccpb.KeyValue) (value string)
}

// read returns what a transaction that is refused reads, for heed.
func (s *Side) read() []clientv3.Op {
	if s == nil {
		return nil
	}
	return []clientv3.Op{clientv3.OpGet(s.Key)}
}

// asKnown returns what a transaction that writes the value compares.
func (s *Side) asKnown() []clientv3.Cmp {
	if s == nil {
		return nil
	}
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.Key), "=", s.Known())}
}

// beside returns the key beside the queue, or nil.
func (r *Rule) beside() *Side {
	if r == nil {
		return nil
	}
	return r.side
}

// watchesAll reports whether a waiter watches the whole queue, whatever its length.
func (r *Rule) watchesAll() bool {
	return admission.AnyMayAdmit(r.mode()) || admission.BlockedByYounger(r.mode())
}

// filter returns what a watch on the blocker need not report. For an exclusive entry these are writes.
func (r *Rule) filter() []clientv3.OpOption {
	if admission.ByAgeAlone(r.mode()) {
		return []clientv3.OpOption{clientv3.WithFilterPut()}
	}
	return nil
}
