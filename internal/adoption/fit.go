package adoption

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Entry is an entry that a call is about to write, or has written, under one name or several.
type Entry struct {
	Names []string
	Slots []wire.Slot // those that the call has under the names already; nil for none
	Want  queue.Want
	Entry *queue.Entry // nil: it was not written, or was refused
}

// Found is what was found of the former process under the names of an entry.
type Found struct {
	Slots  []wire.Slot // of the keys that the entry goes on with, one under each name; nil: none fits
	Others bool        // true: there are keys that were not adopted, and may be older
}

// Fit finds, under each name of an entry, a key of the former process that fits it, and makes the caller
// the owner of the slots. Slots that the caller had are still its own. ctx bounds the requests.
func (f *Former) Fit(ctx context.Context, e Entry) (found Found) {
	all, err := f.cfg.Queues.OwnKeys(ctx, e.Want.Lease, e.Names)
	if err != nil {
		return Found{} // the next request shows the error
	}
	f.gone(e.Names, all)
	unused := 0
	for _, kv := range slices.Concat(all...) {
		if k, _ := wire.ParseKey(string(kv.Key)); f.unused(k) {
			unused++
		}
	}
	found.Others = unused > len(e.Names)
	for _, oldest := range all[0] {
		if slots := f.fit(e, all, oldest.CreateRevision); slots != nil {
			found.Slots = slots
			break
		}
	}
	return found
}

// fit takes the slots of keys that fit, and were written at one revision: keys of several names that were
// not written together are no entry of a set.
func (f *Former) fit(e Entry, all [][]*mvccpb.KeyValue, rev int64) []wire.Slot {
	var slots, take []wire.Slot
	var under []string
	for i, name := range e.Names {
		for _, kv := range all[i] {
			k, ok := wire.ParseKey(string(kv.Key))
			own := e.Slots != nil && e.Slots[i] == k.Slot
			if kv.CreateRevision != rev || !ok || !own && !f.unused(k) || !k.Slot.Ranked(e.Want.Slot) || !queue.Becomes(kv.Value, e.Want.Value) {
				continue
			}
			if slots = append(slots, k.Slot); !own {
				under, take = append(under, name), append(take, k.Slot)
			}
			break
		}
	}
	if len(slots) < len(e.Names) || !f.cfg.Names.HoldAll(under, take) {
		return nil
	}
	return slots
}

// Clear deletes the keys of the former process that are in the way of an entry. found is what Fit has
// found for it. Clear returns false if there were no such keys. ctx bounds what is read.
func (f *Former) Clear(ctx context.Context, ls *lease.Lease, e Entry, found Found) (cleared bool) {
	if e.Entry != nil && found.Slots != nil && !found.Others {
		return false // what has come since is younger than the entry
	}
	for _, name := range e.Names {
		cleared = f.cfg.Revoke(ls.Context(), name) || cleared
	}
	all, err := f.cfg.Queues.OwnKeys(ctx, ls.ID(), e.Names)
	if err != nil {
		return cleared // what waits for an answer of etcd goes on waiting
	}
	others := slices.Concat(all...)
	beside := e.Want.Rule != nil && e.Entry != nil
	if beside {
		if others, err = f.cfg.Queues.Queue(e.Names[0]).AwaitList(ls.Context()); err != nil { // a rule is for one name
			return cleared
		}
	}
	var keys []wire.Parsed
	var rest []*mvccpb.KeyValue
	for _, kv := range others {
		if k, ok := wire.ParseKey(string(kv.Key)); ok && f.unused(k) {
			if e.Entry == nil || e.Want.Candidate || kv.CreateRevision < e.Entry.CreateRevision {
				keys = append(keys, k)
			}
		} else {
			rest = append(rest, kv)
		}
	}
	if len(keys) == 0 {
		return cleared
	}
	if beside && (!e.Entry.Blocked(e.Want.Value, others) || e.Entry.Blocked(e.Want.Value, rest)) {
		// Later calls may hold them beside this one. Other entries are in the way.
		keys = slices.DeleteFunc(keys, func(k wire.Parsed) bool { return !e.excludes(k, others) })
	}
	if err := f.DeleteAdopted(ls.Context(), keys); err != nil {
		if ls.Err() == nil {
			f.cfg.Log.Error("cannot release what the previous process held; calls wait until its lease ends",
				zap.String("name", e.Names[0]), zap.String("lease", wire.Hex(ls.ID())), zap.Error(err))
		}
		return cleared
	}
	return cleared || len(keys) > 0
}

// excludes reports whether a key is of another mode, so that the entry is never admitted beside it.
func (e *Entry) excludes(k wire.Parsed, all []*mvccpb.KeyValue) bool {
	key, mode := wire.SlotKey(k.Name, k.Lease, k.Slot), wire.Wants([]byte(e.Want.Value)).Mode
	return slices.ContainsFunc(all, func(kv *mvccpb.KeyValue) bool {
		return string(kv.Key) == key && wire.Wants(kv.Value).Mode != mode
	})
}

// ClearName deletes all keys of the former process under a name. A reader that is becoming a writer
// would wait for them.
func (f *Former) ClearName(ctx context.Context, ls *lease.Lease, name string) error {
	if !f.MayStand(ls.ID(), name) {
		return nil
	}
	all, err := f.cfg.Queues.OwnKeys(ctx, ls.ID(), []string{name})
	if err != nil {
		return err
	}
	var keys []wire.Parsed
	for _, kv := range all[0] {
		k, _ := wire.ParseKey(string(kv.Key))
		keys = append(keys, k)
	}
	return f.DeleteAdopted(ctx, keys)
}
