package queue

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A marked entry tells the next marked one when it leaves, in the same transaction. So of all marked
// entries the oldest one waits by itself, or holds, or a message is under way to it. The holder gives
// its turn to the entry right behind it, with the list of those that follow. In any other case, as
// when a wait is cancelled, or an entry of another client is between, the next marked entry is told to
// look.

// mostRefused is the number of tries of one call. Each of them finds that entries have left or come.
const mostRefused = 8

// departing is an entry that leaves.
type departing struct {
	*Entry
	mod   int64  // the revision of the last write of its key; 0 for any
	inbox string // its own, which is deleted too if nothing can be told any more, or if mod is given; "" for none
	again *again // what is to be entered by the same transaction; nil for nothing
}

// leaveMarked is one try of Leave for a marked entry.
func (l *line) leaveMarked(ctx context.Context, e departing) (deleted bool, err error) {
	list := e.behind.Load()
	if list == nil || len(list.places) == 0 || e.again != nil && e.saw().guesses >= mostGuesses {
		if list, err = l.readBehind(ctx, e.CreateRevision, clientv3.WithSerializable()); err != nil {
			return false, err
		}
	}
	for n := range mostRefused {
		if n == mostRefused/2 {
			e.again = nil // its key may stand
		}
		d := l.departure(e, list)
		resp, err := l.writer.Commit(ctx, d.txn)
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied): // a role has changed; the next entry looks for itself
			e.behind.Store(untold)
			return l.leaveUntold(ctx, e)
		case err != nil:
			return false, err
		case resp.Succeeded:
			d.succeeded(resp.Header.Revision)
			return true, nil
		}
		own := only(resp.Responses[0].GetResponseRange().Kvs)
		switch {
		case !e.standsIn(own):
			_, _ = l.retry(ctx, int64(e.Lease), func(ctx context.Context) error { return l.tellBehind(ctx, e.Entry) })
			return false, nil // whatever came of that: the key was gone
		case e.mod != 0 && own.ModRevision != e.mod:
			return false, errAgain
		}
		if list, err = l.refused(ctx, e.Entry, d, resp); err != nil {
			return false, err
		}
	}
	return l.leaveUntold(ctx, e) // there is no end of them; those that rely on this one settle
}

// leaveUntold deletes the key of an entry that may tell nothing.
func (l *line) leaveUntold(ctx context.Context, e departing) (deleted bool, err error) {
	resp, err := l.writer.Commit(ctx, etcdkv.Txn{Name: l.name, If: e.guards(), Then: []clientv3.Op{clientv3.OpDelete(e.Key)}})
	return err == nil && resp.Succeeded, err
}

// guards returns what holds while the entry stands, as it was written last.
func (e departing) guards() []clientv3.Cmp {
	if e.mod == 0 {
		return []clientv3.Cmp{e.Guard()}
	}
	return []clientv3.Cmp{e.Guard(), clientv3.Compare(clientv3.ModRevision(e.Key), "=", e.mod)}
}

// departure is one transaction by which an entry leaves, or tells the next one that it has left.
type departure struct {
	txn   etcdkv.Txn
	list  *behind
	told  int    // index in the list of the entry that is told; -1 if there is none
	lists bool   // true if the last read of the else branch is the list for the next try
	again *again // what enters by it; nil for nothing
}

// departure returns the transaction that deletes the key of an entry, and tells the first marked entry of
// a list. If there is none, it compares that no entry stands behind the end of the list.
func (l *line) departure(e departing, list *behind) departure {
	d := l.message(e.Entry, list, e.token() > 0)
	d.txn.If = append(d.txn.If, e.guards()...)
	d.txn.Then = append(d.txn.Then, clientv3.OpDelete(e.Key))
	_, told := list.marked(l.name)
	if e.inbox != told && e.inbox != "" && (d.told < 0 || e.mod != 0) {
		d.txn.Then = append(d.txn.Then, clientv3.OpDelete(e.inbox))
	}
	if d.told < 0 {
		none := clientv3.Compare(clientv3.CreateRevision(l.from).WithRange(l.end), "<", list.tail(e.CreateRevision)+1)
		d.txn.If = append(d.txn.If, none)
	}
	if e.again != nil && e.again.inbox != told { // else another entry of the session is told
		d.enters(e.again)
	}
	return d
}

// message returns the transaction that tells the first marked entry of a list: that it holds, if the
// entry that leaves holds and it is right behind that one. The else branch reads the own key, the entry
// that was to be told, its inbox, and the next list.
func (l *line) message(e *Entry, list *behind, holds bool) departure {
	i, inbox := list.marked(l.name)
	d := departure{txn: etcdkv.Txn{Name: l.name, Else: []clientv3.Op{clientv3.OpGet(e.Key, clientv3.WithKeysOnly())}}, list: list, told: i}
	from := list.tail(e.CreateRevision)
	if i >= 0 {
		from = e.CreateRevision
		next := list.places[i]
		m := wire.Message{To: next.Created}
		if holds && i == 0 && !list.past {
			m.Turn, m.After, m.Behind = true, e.token(), list.places[1:]
		}
		d.txn.If = []clientv3.Cmp{created(next.Key, next.Created), clientv3.Compare(clientv3.CreateRevision(inbox), ">", 0)}
		d.txn.Then = []clientv3.Op{clientv3.OpPut(inbox, m.Encode(l.name), clientv3.WithIgnoreLease())}
		d.txn.Else = append(d.txn.Else, clientv3.OpGet(next.Key, clientv3.WithKeysOnly()), clientv3.OpGet(inbox, clientv3.WithKeysOnly()))
	}
	// As a part of a write, etcd is not to sort a queue that is long, or of unknown length.
	if ahead := e.saw().count; ahead > 0 && ahead < mostPeeked {
		d.lists = true
		d.txn.Else = append(d.txn.Else, clientv3.OpGet(l.from, l.firstBehind(from)...))
	}
	return d
}

// refused returns the list for the next try, after a transaction was refused.
func (l *line) refused(ctx context.Context, e *Entry, d departure, resp *clientv3.TxnResponse) (*behind, error) {
	read := func(i int) *pb.RangeResponse { return resp.Responses[i].GetResponseRange() }
	if d.told >= 0 {
		told := only(read(1).Kvs)
		if told != nil && told.CreateRevision == d.list.places[d.told].Created && len(read(2).Kvs) == 0 {
			list := *d.list
			list.deaf = d.told + 1
			return &list, nil
		}
	}
	switch last := len(resp.Responses) - 1; {
	case d.lists && d.told >= 0:
		return l.newBehind(e.CreateRevision, read(last)), nil
	case d.lists:
		return d.list.goesOn(l.newBehind(d.list.tail(e.CreateRevision), read(last))), nil
	case d.told >= 0:
		return l.readBehind(ctx, e.CreateRevision)
	default:
		return l.beyond(ctx, e, d.list)
	}
}

// beyond reads the entries behind the end of a list that has no marked entry.
func (l *line) beyond(ctx context.Context, e *Entry, list *behind) (*behind, error) {
	next, err := l.readBehind(ctx, list.tail(e.CreateRevision))
	if err != nil {
		return nil, err
	}
	return list.goesOn(next), nil
}

// Forewarn tells the first marked entry behind one that will go with its lease to look. It is one try.
func (q *Queue) Forewarn(ctx context.Context, e *Entry) error { return q.tellBehind(ctx, e) }

// tellBehind tells the first marked entry behind one that is gone, or will be, to look. That one may have
// been deleted by another client, which tells nothing.
func (l *line) tellBehind(ctx context.Context, e *Entry) error {
	list, err := l.readBehind(ctx, e.CreateRevision)
	for range mostRefused {
		if err != nil {
			return err
		}
		d := l.message(e, list, false)
		switch {
		case d.told < 0 && len(list.places) == 0 && !list.more:
			return nil
		case d.told < 0:
			list, err = l.beyond(ctx, e, list)
			continue
		}
		resp, failed := l.writer.Commit(ctx, d.txn)
		switch {
		case errors.Is(failed, rpctypes.ErrPermissionDenied):
			return nil
		case failed != nil || resp.Succeeded:
			return failed
		}
		list, err = l.refused(ctx, e, d, resp)
	}
	return err // there is no end of them; the next marked one settles
}
