package queue

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// inbox is the key beside a queue by which others tell a marked entry that it holds, or is to look. It
// has the lease of the session, and is written by the transaction that enters. Only its events count:
// a late copy of one message may overwrite another one. One watch reports them from wait to wait. It
// is opened before the entry is written, because a message may come before the answer to the entry.
type inbox struct {
	follower
	name, key string
	lease     clientv3.LeaseID
	written   int64         // the revision at which we have written the key, as far as is known; 0 if it does not stand
	posted    *atomic.Int64 // of the queue
}

// newInbox returns the inbox of a lease, with its watch. It returns nil if no watch can be opened soon.
func (l *line) newInbox(ctx context.Context, lease clientv3.LeaseID, posted *atomic.Int64) *inbox {
	in := &inbox{name: l.name, key: wire.InboxKey(l.name, lease), lease: lease, posted: posted}
	in.follower = newFollower(following, 0, func(ctx context.Context, from int64) *watch {
		return l.openLasting(ctx, func(life context.Context) *watch { return l.open(life, in.key, clientv3.WithRev(from)) })
	})
	ctx, cancel := context.WithTimeout(ctx, aheadTimeout)
	defer cancel()
	if in.takes(in.open(ctx, 0)); in.handle == nil {
		in.close()
		return nil
	}
	in.begin(following)
	return in
}

// write returns what the transaction that enters writes besides its entry.
func (in *inbox) write() []clientv3.Op {
	if in == nil || in.written > 0 {
		return nil
	}
	in.posted.Store(int64(in.lease))
	return []clientv3.Op{clientv3.OpPut(in.key, "", clientv3.WithLease(in.lease))}
}

// unwritten has the key written again with the next marked entry. If etcd refuses messages, it refuses that too,
// and that entry is unmarked.
func (in *inbox) unwritten() {
	if in != nil {
		in.written = 0
	}
}

// settleFirst is how long an entry at least relies on the inbox alone, and settleLast how long at most.
const (
	settleFirst = time.Second
	settleLast  = 3 * time.Second
)

// settling returns the rules for a wait. The first reading is due when the entry has waited for
// twice as long as the last one did.
func settling(last time.Duration) rules {
	return rules{times: &times{first: min(max(settleFirst, 2*last), settleLast), longest: waitResync, patience: patience, resumes: true}}
}

// empty takes out what came for earlier entries.
func (in *inbox) empty() {
	for {
		select {
		case resp, ok := <-in.ch():
			in.heard(resp, ok)
			in.tells(nil)
		default:
			return
		}
	}
}

// missed takes in news of the watch. One that was opened again may have missed that the key was deleted.
func (in *inbox) missed(what news) {
	if what == opened {
		in.unwritten()
	}
}

// tells returns what the last events tell an entry: the revision of its turn, 0 if that has not come, and
// whether it is to look.
func (in *inbox) tells(e *Entry) (turn int64, look bool) {
	for _, ev := range in.events {
		if ev.Type == clientv3.EventTypeDelete {
			if ev.Kv.ModRevision > in.written { // not before it was written again
				in.written, look = 0, true // nothing can be told any more
				in.posted.Store(0)
			}
			continue
		}
		m, ok := wire.ParseMessage(in.name, string(ev.Kv.Value))
		switch {
		case !ok || e == nil || m.To != e.CreateRevision: // our own write, or for an earlier entry
		case m.Turn && ev.Kv.ModRevision <= m.After: // etcd was restored: others may be ahead again
			look = true
		case m.Turn:
			e.behind.Store(&behind{places: m.Behind})
			turn = ev.Kv.ModRevision
		default:
			look = true
		}
	}
	return turn, look && turn == 0
}

// told is the channel of the watch, and fires that of the timer. Both are nil if there is no inbox.
func (in *inbox) told() clientv3.WatchChan {
	if in == nil {
		return nil
	}
	return in.ch()
}

func (in *inbox) fires() <-chan time.Time {
	if in == nil {
		return nil
	}
	return in.c
}

// Posted returns the lease under which the key of an inbox may stand; NoLease for none. It is safe for
// concurrent use.
func (k *kept) Posted() clientv3.LeaseID { return clientv3.LeaseID(k.posted.Load()) }

// Withdraw deletes the key of the inbox, if it may stand. It blocks until etcd has answered or ctx ends.
// A deletion that takes effect later does no harm, because an entry that loses its inbox looks for itself.
// Withdraw is safe for concurrent use.
func (q *Queue) Withdraw(ctx context.Context) error {
	lease := q.Posted()
	if lease == clientv3.NoLease {
		return nil
	}
	key := wire.InboxKey(q.name, lease)
	_, err := q.retry(ctx, int64(lease), func(ctx context.Context) error {
		_, err := q.writer.Commit(ctx, etcdkv.Txn{
			Name: q.name, If: []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), ">", 0)}, Then: []clientv3.Op{clientv3.OpDelete(key)},
		})
		return err
	})
	if err == nil || ctx.Err() == nil { // after a refusal the key goes with its lease
		q.posted.CompareAndSwap(int64(lease), int64(clientv3.NoLease))
	}
	return err
}
