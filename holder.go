package etcdlock

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Entry is one contender in a queue, as it stands in etcd.
type Entry struct {
	Key            string
	Lease          clientv3.LeaseID // NoLease: a stray key, which stays until somebody deletes it
	CreateRevision int64            // the order of the queue

	// Who put it there, by his own word; empty for contenders that do not tell, as
	// those on etcd's own package.
	Owner string
	Host  string
	PID   int
	Since time.Time // when the key was written, by the clock of Host

	Value []byte // as it stands in etcd
}

// Queue lists who holds and who waits, in order, at one revision: the first one
// holds, or is about to be granted. It blocks until etcd has answered or ctx ends.
func (m *Mutex) Queue(ctx context.Context) ([]Entry, error) {
	if err := m.session.usable(m.name); err != nil {
		return nil, opError("list the queue of", m.name, err)
	}
	kvs, _, err := m.session.queue(m.name).List(ctx)
	if err != nil {
		return nil, opError("list the queue of", m.name, err)
	}
	entries := make([]Entry, len(kvs))
	for i, kv := range kvs {
		entries[i] = newEntry(kv)
	}
	return entries, nil
}

func newEntry(kv *mvccpb.KeyValue) Entry {
	h, _ := wire.DecodeHolder(kv.Value)
	return Entry{
		Key:            string(kv.Key),
		Lease:          clientv3.LeaseID(kv.Lease),
		CreateRevision: kv.CreateRevision,
		Owner:          h.Owner,
		Host:           h.Host,
		PID:            h.PID,
		Since:          h.Since,
		Value:          kv.Value,
	}
}

// holderValue is the value of a lock's key.
func holderValue(owner string) string {
	return wire.Holder{Owner: owner, Host: hostname(), PID: os.Getpid(), Since: time.Now().UTC()}.Encode()
}

var hostname = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
})

func baseName(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".exe")
}

// hex writes a lease the way etcdctl does.
func hex(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }
