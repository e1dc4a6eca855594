package queue

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Rule is the rule by which an entry waits for others; nil is that of an exclusive entry. The rules
// are in package admission. What is here reads entries for them.
//
// An entry that was found to be admitted is not looked at again. Its hold lasts for as long as the
// entry stands.
type Rule struct {
	wants wire.Mode
	side  *Side // what the value of the entry depends on beside the queue; nil if on nothing
}

// Shared is the rule of a reader.
func Shared() *Rule { return &Rule{wants: wire.Shared} }

// Permits is the rule of a semaphore. side is the key where an order to change its limit stands.
func Permits(side *Side) *Rule { return &Rule{wants: wire.Counted, side: side} }

// mode is the mode of the entries of a rule.
func (r *Rule) mode() wire.Mode {
	if r == nil {
		return wire.Exclusive
	}
	return r.wants
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
		w.Value = side.Heed(only(refused.Responses[len(refused.Responses)-1].GetResponseRange().Kvs))
	}
}

// beside is the key beside the queue; nil for none.
func (r *Rule) beside() *Side {
	if r == nil {
		return nil
	}
	return r.side
}

// watchesAll tells whether a waiter watches the whole queue, however long that is.
func (r *Rule) watchesAll() bool {
	return admission.AnyMayAdmit(r.mode()) || admission.BlockedByYounger(r.mode())
}

// filter is what a watch on the blocker need not report: for an exclusive entry, writes.
func (r *Rule) filter() []clientv3.OpOption {
	if admission.ByAgeAlone(r.mode()) {
		return []clientv3.OpOption{clientv3.WithFilterPut()}
	}
	return nil
}

// fewEntries is how many entries are looked at without an allocation: those of a view.
const fewEntries = 8

// blocker is the entry that blocks e; nil if e is admitted. own is the key of e, and all are the
// entries of the queue at one revision, with or without own. For an exclusive entry own may be nil,
// and no value need have been read.
func (e *Entry) blocker(own *mvccpb.KeyValue, all []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	name, _ := wire.NameOf(e.Key)
	mine, err := e.asRuled(name, own)
	if err != nil {
		return nil, err
	}
	var few [fewEntries]admission.Entry
	others := few[:0]
	if len(all) > fewEntries {
		others = make([]admission.Entry, 0, len(all))
	}
	if admission.ByAgeAlone(mine.Mode) {
		for _, kv := range all {
			others = append(others, admission.Entry{Created: kv.CreateRevision})
		}
	} else {
		for _, kv := range all {
			others = append(others, contends(name, kv, wire.Wants(kv.Value)))
		}
	}
	i, err := admission.Blocker(mine, others)
	if i == admission.None || err != nil {
		return nil, err
	}
	return all[i], nil
}

// asRuled is e by its own rule. For permits and for an upgrade the value in etcd decides, which other
// sessions may have changed.
func (e *Entry) asRuled(name string, own *mvccpb.KeyValue) (admission.Entry, error) {
	mode := e.rule.mode()
	if mode == wire.Exclusive || mode == wire.Shared {
		return admission.Entry{Created: e.CreateRevision, Mode: mode}, nil
	}
	mine := contends(name, own, wire.Wants(own.Value))
	if mine.Mode != mode {
		return mine, ErrOverwritten
	}
	return mine, nil
}

// contends is a key in the queue of a name as the rules see it, by what its value asks for.
func contends(name string, kv *mvccpb.KeyValue, wants wire.Holder) admission.Entry {
	_, nested := wire.Nested(name, string(kv.Key))
	return admission.Entry{
		Created: kv.CreateRevision, Modified: kv.ModRevision,
		Mode: wants.Mode, Bound: wants.Bound, Permits: wants.Permits, Limit: wants.Limit, Ordered: wants.Ordered,
		Nested: nested,
	}
}
