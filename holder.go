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

	"github.com/etcdlock/etcdlock/internal/queue"
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

	// Shared says that it wants to read, beside others who do; Upgrading, that it does, and is
	// becoming a writer or has become one; Permits, how many of Limit it wants of a semaphore.
	// Without any of these it wants to hold alone.
	Shared         bool
	Upgrading      bool
	Permits, Limit int

	// Priority is that of a candidate; see [WithPriority].
	Priority int

	// Holds are the keys of what its owner holds meanwhile, as far as the context of its
	// call said so.
	Holds []string

	Value []byte // as it stands in etcd
}

// Queue lists who holds and who waits, in order, at one revision: the first one
// holds, or is about to be granted. It blocks until etcd has answered or ctx ends.
func (m *Mutex) Queue(ctx context.Context) ([]Entry, error) {
	return m.session.list(ctx, m.name)
}

// list lists the queue of a name.
func (s *Session) list(ctx context.Context, name string) ([]Entry, error) {
	if err := s.usable(name); err != nil {
		return nil, opError("list the queue of", name, err)
	}
	kvs, _, err := s.queue(name).List(ctx)
	if err != nil {
		return nil, opError("list the queue of", name, err)
	}
	entries := make([]Entry, 0, len(kvs))
	for _, kv := range kvs {
		if !queue.IsMark(kv) {
			entries = append(entries, newEntry(kv))
		}
	}
	return entries, nil
}

func newEntry(kv *mvccpb.KeyValue) Entry {
	h := wire.Wants(kv.Value)
	return Entry{
		Key:            string(kv.Key),
		Lease:          clientv3.LeaseID(kv.Lease),
		CreateRevision: kv.CreateRevision,
		Owner:          h.Owner,
		Host:           h.Host,
		PID:            h.PID,
		Since:          h.Since,
		Shared:         h.Mode == wire.Shared,
		Upgrading:      h.Mode == wire.Upgrading,
		Permits:        h.Permits,
		Priority:       wire.Priority(string(kv.Key)),
		Limit:          h.Limit,
		Holds:          h.Holds,
		Value:          kv.Value,
	}
}

// holderValue is the value of a lock's key: what is wanted, and who wants it.
func holderValue(want wire.Holder) string {
	want.Host, want.PID, want.Since = hostname(), pid(), time.Now().UTC()
	return want.Encode()
}

var pid = sync.OnceValue(os.Getpid) // each call of which is one of the system

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
