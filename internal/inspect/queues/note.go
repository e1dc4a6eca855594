package queues

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Note describes a process of the command beside a queue. The entry itself has no place for it: etcd
// stores no time of a grant, and a candidate's value is its proposal. The note has the lease of the
// entry. Nothing depends on it.
type Note struct {
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"` // when it entered the queue

	// Granted is the time of the grant, and zero while it waits. Rev is the create revision of the key
	// of this hold, or 0 if the lease has no other hold.
	Rev     int64     `json:"rev,omitempty"`
	Granted time.Time `json:"granted,omitzero"`
}

// notes is the prefix of the notes of a name. The lease follows.
func notes(name string) string { return wire.Side(name, "who/") }

// Put writes the note of a lease, once.
func (n Note) Put(ctx context.Context, kv clientv3.KV, name string, lease clientv3.LeaseID) error {
	value, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, notes(name)+strconv.FormatInt(int64(lease), 16), string(value), clientv3.WithLease(lease))
	return err
}

// IsNote reports whether a key is the key of a note.
func IsNote(key string) bool { return strings.Contains(key, wire.Side("", "who/")) }

// tell adds the contents of the notes among some keys beside a queue to its entries.
func (q *Queue) tell(kvs []*mvccpb.KeyValue) {
	said := make(map[clientv3.LeaseID]Note)
	for _, kv := range kvs {
		var n Note
		if kv.Lease != 0 && IsNote(string(kv.Key)) && json.Unmarshal(kv.Value, &n) == nil {
			said[clientv3.LeaseID(kv.Lease)] = n
		}
	}
	for i := range q.Entries {
		e := &q.Entries[i]
		n, ok := said[e.Lease]
		if !ok {
			continue
		}
		if e.Host == "" {
			e.Host, e.PID, e.Since = n.Host, n.PID, n.Since
		}
		if e.Holds && (n.Rev == 0 || n.Rev == e.CreateRevision) {
			e.Granted = n.Granted
		}
	}
}
