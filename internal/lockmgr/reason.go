package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/eviction"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Why a wait has failed or a hold has ended.

// explainWithin is how long a hold may continue while etcd is asked why its key is gone.
const explainWithin = 500 * time.Millisecond

// whyGone finds out why a key of the session is gone: with its lease, which then ends, or alone. An
// eviction of the entry, if it is not nil, may have left its reason. The question must not take long,
// because a hold of the entry continues meanwhile.
func (m *Manager) whyGone(ls *lease.Lease, e *queue.Entry) error {
	return m.whyGoneUntil(time.Now().Add(explainWithin), ls, e)
}

// whyGoneUntil is whyGone until a time.
func (m *Manager) whyGoneUntil(until time.Time, ls *lease.Lease, e *queue.Entry) error {
	var asked sync.WaitGroup
	defer asked.Wait()
	ctx, cancel := context.WithDeadline(ls.Context(), until)
	defer cancel()
	evicted := lockerr.ErrEvicted
	asked.Go(func() { evicted = m.evictionOf(ctx, e) })
	unanswered := ls.Verify(ctx)
	switch err := ls.Err(); {
	case err != nil:
		return err
	case unanswered != nil:
		return lockerr.Lost(errEvictedOrRevoked)
	default:
		asked.Wait()
		return lockerr.Lost(evicted)
	}
}

// whyPlaceGone is whyGone for the entry of waiters. No hold continues meanwhile, so etcd is asked until it
// answers, the lease ends or no waiter is left.
func (m *Manager) whyPlaceGone(wanted *lazyctx.Context, ls *lease.Lease, e *queue.Entry) error {
	ctx, stop := until(wanted, ls)
	defer stop()
	unanswered := m.cfg.Insist(ctx, func(ctx context.Context) error { return ls.Verify(ctx) })
	switch err := ls.Err(); {
	case err != nil:
		return err
	case unanswered != nil:
		return lockerr.Lost(errEvictedOrRevoked)
	}
	ctx, cancel := context.WithTimeout(ctx, explainWithin)
	defer cancel()
	return lockerr.Lost(m.evictionOf(ctx, e))
}

// explain finds out why keys are gone, and ends the ownerships. It asks once for all that went at one
// instant, as the keys of a lease do. The reason of an eviction is read for a key that went alone. While
// etcd does not answer, keys that go later have less time left to be explained, and no hold continues for
// longer than explainWithin.
func (m *Manager) explain() {
	for {
		all, at := m.TakeEvicted()
		if len(all) == 0 {
			return
		}
		gone := make(map[*lease.Lease]int)
		for _, d := range all {
			gone[d.Lease]++
		}
		causes := make(map[*lease.Lease]error)
		for _, d := range all {
			if causes[d.Lease] == nil {
				alone := d.Entry
				if gone[d.Lease] > 1 {
					alone = nil
				}
				causes[d.Lease] = m.whyGoneUntil(at.Add(explainWithin), d.Lease, alone)
			}
			if d.Lease.Err() == nil { // else it has ended, and LeaseLost follows
				d.Of.Lose(causes[d.Lease])
			}
		}
	}
}

// evictionOf is the reason of a loss, with that of the eviction if there is one.
func (m *Manager) evictionOf(ctx context.Context, e *queue.Entry) error {
	if e == nil {
		return lockerr.ErrEvicted
	}
	found := make([]*eviction.Notice, len(e.Parts()))
	var asked sync.WaitGroup
	for i, part := range e.Parts() { // at once, as the hold goes on meanwhile
		asked.Go(func() {
			name, _ := wire.NameOf(part.Key)
			found[i], _ = eviction.Find(ctx, m.cfg.KV, name, part.Key, part.CreateRevision, 0) // else the reason is lost, and nothing else
		})
	}
	asked.Wait()
	for _, n := range found {
		if n != nil {
			return fmt.Errorf("%w: %v", lockerr.ErrEvicted, n)
		}
	}
	return lockerr.ErrEvicted
}

var errEvictedOrRevoked = fmt.Errorf("%w, or its lease was revoked: etcd has not answered in time which", lockerr.ErrEvicted)

// fail gives the error to each waiter that it concerns.
func (l line) fail(wanted *lazyctx.Context, ls *lease.Lease, first *local.Waiter, e *queue.Entry, err error) {
	switch {
	case errors.Is(err, lockerr.ErrEvicted):
		l.FailAll(ls, l.whyPlaceGone(wanted, ls, e)) // the lost place was that of all waiters
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		_ = l.whyGone(ls, nil) // ends it, if etcd answers
		ls.End(lockerr.Lost(lockerr.ErrRevoked))
		l.FailAll(ls, ls.Err())
	case ls.Err() != nil:
		l.FailAll(ls, ls.Err())
	case err == nil || wanted.Cause() != nil:
		// No waiter is left.
	default:
		l.Fail(first, err)
	}
}

// waitError is the error of a wait when its context has ended. After a deadline it names the entry in the
// way; locked is nil if that is not known.
func waitError(ctx context.Context, locked *local.LockedError) error {
	ended := lockerr.OfContext(ctx)
	if locked != nil && errors.Is(ended, context.DeadlineExceeded) {
		return &WaitError{Ended: ended, Locked: locked}
	}
	return ended
}
