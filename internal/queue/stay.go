package queue

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// Stay blocks while the lock is ours: until our own key is gone (ErrEvicted), or ctx ends
// (its cause). A lease that is renewed says nothing of the key (trap C12). The key is
// watched when settle has passed, which is Settle when the hold has just begun.
//
// From when kept is closed on, company is called when somebody else is in the queue:
// at least once, soon after he has come, whether before or after.
func (q *Queue) Stay(ctx context.Context, e *Entry, settle time.Duration, kept <-chan struct{}, company func()) error {
	if q.view != nil && !q.view.serves(e) {
		q.closeView()
	}
	if q.view != nil {
		if err := q.stayInView(ctx, e, kept, company); err != nil {
			return err
		}
	}
	own := newOwnWatch(e, settle)
	defer own.stop()
	// Most holds end before anything else happens.
	select {
	case <-own.due.C:
		if own.open(ctx, q) {
			if _, err := q.stands(ctx, e, false); err != nil {
				return err
			}
		}
	case <-kept:
		kept = nil
		own.stop()
		own.wide = true
		own.open(ctx, q)
		alone, err := q.stands(ctx, e, true)
		if err != nil {
			return err
		}
		if !alone {
			company()
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	q.closeBehind()
	resync := time.NewTicker(holdResync)
	defer resync.Stop()
	for {
		select {
		case resp := <-own.ch():
			if deleted(resp, e) {
				return lockerr.ErrEvicted
			}
			if own.wide && resp.Err() == nil && len(resp.Events) > 0 {
				if others(e, resp.Events) {
					company()
				}
				continue
			}
			own.ended()
			continue // the look comes after it was opened again
		case <-kept:
			kept = nil
			own.stop()
			own.wide = true
			own.open(ctx, q)
		case <-own.due.C:
			if !own.open(ctx, q) {
				continue
			}
		case <-resync.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		alone, err := q.stands(ctx, e, own.wide)
		if err != nil {
			return err
		}
		if !alone {
			company()
		}
	}
}

// others tells whether somebody else's key was written.
func others(e *Entry, events []*clientv3.Event) bool {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypePut && string(ev.Kv.Key) != e.Key {
			return true
		}
	}
	return false
}

// stands reads whether our own entry stands, ErrEvicted if not, and, if that is asked,
// whether it is alone in the queue.
func (q *Queue) stands(ctx context.Context, e *Entry, askAlone bool) (alone bool, err error) {
	ops := []clientv3.Op{clientv3.OpGet(e.Key, clientv3.WithKeysOnly())}
	if askAlone {
		ops = append(ops, clientv3.OpGet(q.from, clientv3.WithRange(q.end), clientv3.WithKeysOnly(), clientv3.WithLimit(2)))
	}
	_, err = q.retry(ctx, int64(e.Lease), func(ctx context.Context) error {
		resp, err := q.kv.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return err
		}
		if !e.standsIn(resp.Responses[0].GetResponseRange().Kvs) {
			return lockerr.ErrEvicted
		}
		alone = !askAlone || len(resp.Responses[1].GetResponseRange().Kvs) == 1
		return nil
	})
	return alone, err
}
