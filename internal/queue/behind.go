package queue

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// behind is a list of entries behind another one, oldest first. It was read in one range, so it is
// complete up to its last entry, however old it is: new entries come behind all that stand.
type behind struct {
	places []wire.Place
	token  int64 // of the entry that has the list, see Entry.token
	past   bool  // true: it begins behind entries to which nothing can be told
	deaf   int   // the first entries of the list that count as not marked
	end    int64 // the create revision up to which it is complete; 0 stands for that of its last entry
	more   bool  // true: further keys stood behind its end when it was read
	count  int64 // how many keys the queue had when it was read; 0 for a list of a message
}

// untold is the list of an entry whose message etcd has refused. It is empty.
var untold = &behind{}

// longestList is the number of entries that are read at once.
const longestList = 32

// marked returns the first entry that can be told something, by its index, and its inbox. The index is
// -1 if there is none.
func (b *behind) marked(name string) (i int, inbox string) {
	for i = b.deaf; i < len(b.places); i++ {
		if lease, ok := wire.MarkedOf(name, b.places[i].Key); ok {
			return i, wire.InboxKey(name, lease)
		}
	}
	return -1, ""
}

// tail returns the create revision up to which the list is complete. of is the entry that it is behind.
func (b *behind) tail(of int64) int64 {
	if n := len(b.places); n > 0 {
		of = b.places[n-1].Created
	}
	return max(of, b.end)
}

// goesOn returns the list that was read behind the end of this one, which has no marked entry.
func (b *behind) goesOn(next *behind) *behind {
	next.past = b.past || len(b.places) > 0
	return next
}

// readBehind reads the first entries that were created after a revision. It is one try.
func (l *line) readBehind(ctx context.Context, rev int64, opts ...clientv3.OpOption) (*behind, error) {
	resp, err := l.kv.Get(ctx, l.from, append(opts, l.firstBehind(rev)...)...)
	if err != nil {
		return nil, err
	}
	return l.newBehind(rev, (*pb.RangeResponse)(resp)), nil
}

// firstBehind are the options of a read of the first entries that were created after a revision.
func (l *line) firstBehind(rev int64) []clientv3.OpOption {
	return []clientv3.OpOption{
		clientv3.WithRange(l.end), clientv3.WithMinCreateRev(rev + 1), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(longestList),
	}
}

// newBehind returns the list that firstBehind has read, of what was created after a revision.
func (l *line) newBehind(rev int64, read *pb.RangeResponse) *behind {
	b := &behind{places: make([]wire.Place, 0, len(read.Kvs)), end: rev, more: read.More, count: read.Count}
	for _, kv := range read.Kvs {
		b.end = kv.CreateRevision
		if !wire.BesideInner(l.from, kv.Key) {
			b.places = append(b.places, wire.Place{Key: string(kv.Key), Created: kv.CreateRevision})
		}
	}
	return b
}
