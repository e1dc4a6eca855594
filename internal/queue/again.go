package queue

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A session whose own callers wait for a name enters again by the transaction in which its marked entry
// leaves. This saves one of two writes. The new entry has the other one of the two marked keys, and is the
// last one of the queue, as if it had entered right after.

// again is the entry that is written by the transaction in which another one of the session leaves.
type again struct {
	key   string
	inbox string        // of the session
	posts []clientv3.Op // the inbox, if it does not stand

	lease   clientv3.LeaseID
	value   string
	entered int64     // the revision at which it was written; 0 if it was not
	by      departure // the transaction that has written it
}

// LeaveAndEnter is one try of Leave for a marked entry that holds. In the same transaction it enters
// again, if that is possible: else entered is nil, and nothing was written. After an error the key may have been
// deleted and written, or both may come later. The caller bounds ctx.
func (q *Queue) LeaveAndEnter(ctx context.Context, e *Entry, w Want) (deleted bool, entered *Entry, err error) {
	q.renew()
	leaves := departing{Entry: e}
	if q.hears(w.Lease) && e.token() > 0 && e.Lease == w.Lease {
		leaves.again = &again{key: q.key(w), inbox: q.inbox.key, posts: q.inbox.write(), lease: w.Lease, value: w.Value}
	}
	deleted, err = q.leaveMarked(ctx, leaves)
	if err != nil || leaves.again == nil || leaves.again.entered == 0 {
		return deleted, nil, err
	}
	return true, q.enteredAgain(e, w, leaves.again), nil
}

// mostGuesses is the number of entries in a row of which none has read how long the queue is. Then the list is
// read again, although there is one.
const mostGuesses = 40

// hears reports whether the inbox of a lease is watched.
func (q *Queue) hears(lease clientv3.LeaseID) bool {
	if q.barred || q.inbox == nil {
		return false
	}
	q.inbox.empty()
	return q.inbox.watch != nil && q.inbox.lease == lease
}

// enteredAgain makes the entry that was written in place of another one. What others there are is known by
// the list of that one. Without it the new entry is alone: the transaction has compared that none is behind.
func (q *Queue) enteredAgain(last *Entry, w Want, a *again) *Entry {
	if len(a.posts) > 0 {
		q.inbox.written = a.entered
	}
	e, list := newEntry(a.key, w, a.entered), a.by.list
	e.asleep = a.by.told >= 0
	e.first = !e.asleep && len(list.places) == 0 && !list.past
	q.last = e
	now := seen{count: list.count - 1} // our last key was among them
	if list.count == 0 {               // it is a list of a message, and a part
		was := last.saw()
		now = seen{count: max(int64(len(list.places)), was.count), guesses: was.guesses + 1}
	}
	q.found(now.count)
	e.sees(now)
	return e
}

// enters has a transaction write the entry.
func (d *departure) enters(a *again) {
	d.again = a
	d.txn.If = append(d.txn.If, created(a.key, 0))
	d.txn.Then = append(append(d.txn.Then, clientv3.OpPut(a.key, a.value, clientv3.WithLease(a.lease))), a.posts...)
}

// succeeded notes the revision of a transaction.
func (d *departure) succeeded(rev int64) {
	if d.again != nil {
		d.again.entered, d.again.by = rev, *d
	}
}
