// Package pause pauses an election: the leader stays, and no other process leads until the pause ends.
//
// A pause is an entry at the end of the queue, which no process leads by. All that come later wait for
// it, whatever library they use, because it is older. Its key has the form of a candidate of the highest
// priority. So each candidate ahead that follows priorities moves behind the pause when it becomes the
// oldest. A candidate that does not follow priorities would lead, so nothing is paused while one waits
// ahead. A candidate that a Transfer has named comes before any priority, and leads.
//
// The entry has a lease of its own that no process renews. A pause that is forgotten ends with it.
package pause

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Errors of Begin and End.
var (
	ErrPaused    = errors.New("the election is paused already")
	ErrNotPaused = errors.New("the election is not paused")
)

// UnknowingError says which entries stand in the way of a pause: they would lead all the same.
type UnknowingError struct{ Entries []*mvccpb.KeyValue }

func (e *UnknowingError) Error() string {
	names := make([]string, len(e.Entries))
	for i, kv := range e.Entries {
		names[i] = fmt.Sprintf("%s (%s)", kv.Key, wire.Quote(string(kv.Value)))
	}
	return fmt.Sprintf("not paused: %d entries do not show that they follow priorities, and would lead: %s", len(names), wire.QuoteAll(names))
}

// Pause is a pause that has begun.
type Pause struct {
	Leader *mvccpb.KeyValue // that stays, nil if there is none
	Until  time.Time
}

func pauses(kv *mvccpb.KeyValue) bool { return wire.Pauses(string(kv.Key)) }

// notes is the prefix of the notes of "etcdlock elect" and the like beside a queue, by lease.
func notes(name string) string { return wire.Side(name, "who/") }

// Begin pauses an election for a time, in whole seconds. ctx bounds each request.
func Begin(ctx context.Context, client *clientv3.Client, name string, d time.Duration) (*Pause, error) {
	from, end := wire.Range(name)
	reads := []clientv3.Op{
		clientv3.OpGet(from, clientv3.WithRange(end), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
		clientv3.OpGet(notes(name), clientv3.WithPrefix()),
	}
	before, err := client.Txn(ctx).Then(reads...).Commit()
	if err == nil {
		err = allows(name, before.Responses)
	}
	if err == nil && slices.ContainsFunc(entries(name, before.Responses), pauses) {
		err = ErrPaused
	}
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(d)
	lease, err := client.Grant(ctx, int64(d/time.Second))
	if err != nil {
		return nil, err
	}
	key := wire.SlotKey(name, lease.ID, wire.Slot{Priority: wire.PausePriority})
	after, err := client.Txn(ctx).Then(append([]clientv3.Op{
		clientv3.OpPut(key, "", clientv3.WithLease(lease.ID)),
		clientv3.OpPut(notes(name)+wire.Hex(lease.ID), note(), clientv3.WithLease(lease.ID)),
	}, reads...)...).Commit()
	if err == nil {
		err = allows(name, after.Responses[2:]) // a candidate can have come between the two
	}
	if err != nil {
		withdraw(ctx, client, lease.ID)
		return nil, err
	}
	p := &Pause{Until: until}
	if first := entries(name, after.Responses[2:])[0]; string(first.Key) != key {
		p.Leader = first
	}
	return p, nil
}

// withdraw revokes the lease of a pause that did not begin. Otherwise it would end by itself.
func withdraw(ctx context.Context, client *clientv3.Client, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second) // ctx may be why it failed
	defer cancel()
	_, _ = client.Revoke(ctx, lease)
}

// note describes this process, for listings of the queue.
func note() string {
	host, _ := os.Hostname() // empty after an error
	b, _ := json.Marshal(struct {
		Host  string    `json:"host,omitempty"`
		PID   int       `json:"pid,omitempty"`
		Since time.Time `json:"since"`
	}{host, os.Getpid(), time.Now().UTC()})
	return string(b)
}

// allows returns an error if an election cannot be paused, by its queue and the notes beside it. The
// first entry leads, and stays. Entries behind a pause wait for it.
func allows(name string, read []*pb.ResponseOp) error {
	noted := make(map[int64]bool)
	for _, kv := range read[1].GetResponseRange().Kvs {
		noted[kv.Lease] = true
	}
	var unknowing []*mvccpb.KeyValue
	for i, kv := range entries(name, read) {
		if pauses(kv) {
			break
		}
		if i > 0 && !knows(kv, noted[kv.Lease]) {
			unknowing = append(unknowing, kv)
		}
	}
	if len(unknowing) > 0 {
		return &UnknowingError{unknowing}
	}
	return nil
}

// entries returns the entries of an election in what was read. Others in its range are beside names inside its
// name.
func entries(name string, read []*pb.ResponseOp) []*mvccpb.KeyValue {
	from, _ := wire.Range(name)
	all := read[0].GetResponseRange()
	all.Kvs = slices.DeleteFunc(all.Kvs, func(kv *mvccpb.KeyValue) bool { return wire.BesideInner(from, kv.Key) })
	return all.Kvs
}

// knows reports whether an entry shows that its process moves behind a pause, because it is a candidate
// of this library. Only this library gives a candidate's key a rank. A candidate without one looks like
// one of etcd's own package, unless it is of the command, which writes a note under the same lease.
func knows(kv *mvccpb.KeyValue, noted bool) bool {
	if priority, takeover := wire.Rank(string(kv.Key)); priority != 0 || takeover {
		return kv.Lease != 0 && priority < wire.PausePriority
	}
	_, lock := wire.ReadHolder(kv.Value)
	return kv.Lease != 0 && noted && !lock && len(kv.Value) > 0
}

// End ends the pause of an election.
func End(ctx context.Context, client *clientv3.Client, name string) error {
	from, end := wire.Range(name)
	resp, err := client.Get(ctx, from, clientv3.WithRange(end))
	if err != nil {
		return err
	}
	paused := false
	for _, kv := range resp.Kvs {
		if !pauses(kv) {
			continue
		}
		paused = true
		same := clientv3.Compare(clientv3.CreateRevision(string(kv.Key)), "=", kv.CreateRevision)
		if _, err := client.Txn(ctx).If(same).Then(clientv3.OpDelete(string(kv.Key))).Commit(); err != nil {
			return err
		}
		if k, _ := wire.ParseKey(string(kv.Key)); int64(k.Lease) == kv.Lease {
			withdraw(ctx, client, k.Lease) // with the note; or both expire
		}
	}
	if !paused {
		return ErrNotPaused
	}
	return nil
}
