package queue

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Await blocks until the rule of the entry admits it: without a rule, until no older entry is left.
// It returns the revision at which this was seen together with our own key, which is the proof of
// the grant (traps A6, B1, D1).
//
// The error is ErrEvicted when our key was deleted, lockerr.ErrNestedName when an older key shows
// that another name lies inside ours, and the cause of ctx when ctx ends. Our key stays in each
// case but the first.
func (q *Queue) Await(ctx context.Context, e *Entry) (int64, error) {
	if e.first {
		return e.CreateRevision, nil
	}
	q.waits.begins(e)
	rev, err := q.await(ctx, e)
	if err == nil {
		q.waits.granted()
	}
	return rev, err
}

// await is Await for an entry that had others ahead.
func (q *Queue) await(ctx context.Context, e *Entry) (int64, error) {
	if e.marked && e.rule == nil {
		return q.awaitTurn(ctx, e)
	}
	if q.inCache(e) {
		rev, err := q.awaitInCache(ctx, e)
		if !errors.Is(err, errTooLong) {
			return rev, err
		}
	}
	return q.awaitPredecessor(ctx, e)
}

// inCache reports whether Await begins with the cache.
func (q *Queue) inCache(e *Entry) bool {
	saw := e.saw()
	return q.cache != nil || saw.ahead != nil && saw.older <= q.shortQueue || e.rule.watchesAll()
}

// Follows reports whether Await watches the entry ahead alone, as in a long queue, or waits for a message. Then
// it can be ended at any time and begun again. A message that came in between is not lost.
func (q *Queue) Follows(e *Entry) bool { return !e.first && (e.marked || !q.inCache(e)) }

var errTooLong = errors.New("too many for a cache")

// awaitInCache is Await by the cache. It returns errTooLong if the queue has become too long for one.
func (q *Queue) awaitInCache(ctx context.Context, e *Entry) (int64, error) {
	for c := q.cacheFor(e); ; {
		shown, err := c.shows(ctx, e)
		if err != nil {
			return 0, err
		}
		if shown {
			next, err := c.blocker(e)
			switch {
			case err != nil:
				return 0, err
			case next == nil:
				return c.rev, nil
			}
			e.waitsFor(c.obstacle(e, next))
			if err := q.nested(next); err != nil {
				return 0, err
			}
			if !c.keysOnly {
				q.warn(next)
			}
			if q.tooLong(len(c.entries)) && !e.rule.watchesAll() {
				q.closeCache()
				return 0, errTooLong
			}
		}
		if _, err := c.next(ctx, nil); err != nil {
			return 0, err
		}
	}
}

// awaitPredecessor is Await by a watch on the predecessor.
func (q *Queue) awaitPredecessor(ctx context.Context, e *Entry) (rev int64, err error) {
	theirs := q.takeTheirs(e)
	defer func() {
		if err != nil && ctx.Err() == nil { // a wait for the same entry is to find the same by its first read
			theirs.close()
			return
		}
		q.keepTheirs(e, theirs)
	}()
	return q.newWait(e, theirs, q.inbox, &q.length, q.warn).await(ctx)
}

// warn logs an entry that we wait for if it has no lease. It counts like any other, but nothing may
// ever delete it.
func (q *Queue) warn(ahead *mvccpb.KeyValue) {
	if ahead.Lease == 0 && q.warned != ahead.CreateRevision {
		q.warned = ahead.CreateRevision
		q.log.Warn("waiting for a key that has no lease: it stays until it is deleted",
			zap.String("name", q.name), zap.ByteString("key", ahead.Key), zap.Int64("create-revision", ahead.CreateRevision))
	}
}
