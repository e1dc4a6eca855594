package lockmgr

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Hold is one acquisition, with the requests that it needs. The root documents its methods at the
// handles of the API.
type Hold struct {
	local.Hold
	manager *Manager
}

// Rewrite changes the value of the key, and fails if the hold ends.
func (h *Hold) Rewrite(ctx context.Context, value string) error {
	ctx, stop := h.Within(ctx)
	defer stop()
	d := h.Deletion()
	err := h.manager.cfg.Queues.Rewrite(ctx, h.Entry(), value)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lockerr.ErrEvicted):
		d.Of.Lose(h.manager.whyGone(d.Lease, d.Entry)) // unless it had ended before
		return h.Err()
	case h.Err() != nil:
		return h.Err()
	case ctx.Err() != nil:
		return lockerr.OfContext(ctx)
	default:
		return err
	}
}

// Candidates lists the entries of the queue while the hold lasts.
func (h *Hold) Candidates(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	ctx, stop := h.Within(ctx)
	defer stop()
	return h.manager.cfg.Queues.Queue(h.Name()).AwaitList(ctx)
}

// Release ends the hold at once, and waits until it is decided what becomes of the key: handed on,
// or gone, as etcd has confirmed; or until ctx ends. The deletion then goes on in the background
// until it is known or the lease is dead (traps A10, B4).
//
// A hold that has reached its limit is given back by it, and the error says so.
func (h *Hold) Release(ctx context.Context) error {
	_, err := h.ReleaseTo(ctx, nil)
	switch {
	case !h.Overdue(), errors.Is(err, lockerr.ErrHeldTooLong):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", err, h.Ended())
	default:
		return h.Ended()
	}
}

// ReleaseTo is Release that makes a candidate the successor, if it is not nil, by the request that
// deletes the key. handed is why the candidate is not the successor, or may not be, though the hold
// was released: ErrNotHanded, or what came of the request. While another hold within this one goes
// on, err is ErrHeldWithin, and this one goes on too.
func (h *Hold) ReleaseTo(ctx context.Context, successor *mvccpb.KeyValue) (handed, err error) {
	ctx, stop := h.ReleaseContext(ctx)
	defer stop()
	if successor != nil && !h.manager.CloseFor(&h.Hold) {
		return nil, ErrHeldWithin
	}
	released, d := h.manager.Release(&h.Hold)
	switch released {
	case local.NotHeld:
		return nil, h.Err()
	case local.Passed:
		return ErrNotHanded, nil
	case local.Last:
	}
	settled, handed := h.manager.leaveAtOnce(ctx, &d, successor)
	if settled == nil {
		return handed, nil
	}
	select {
	case <-settled:
		return handed, d.Unconfirmed()
	default:
	}
	select {
	case <-settled:
		return handed, d.Unconfirmed()
	case <-ctx.Done():
		return handed, lockerr.NotConfirmed(lockerr.OfContext(ctx))
	}
}

// Abandon is Release for a caller that does not wait. It returns false if the hold had ended before.
func (h *Hold) Abandon() (ended bool) {
	return h.giveBack() && !h.Overdue()
}

// giveBack is Abandon that is also true if the hold has reached its limit, and was not given back before.
func (h *Hold) giveBack() bool {
	released, d := h.manager.Release(&h.Hold)
	if released == local.Last {
		d.Left(false, nil)
	}
	return released != local.NotHeld
}

// overdue is called when a hold has reached its limit, and when the margin after that is over. At the limit
// the context of the hold ends. As after a loss, its work then has the margin to end, before another session
// can hold. Then the hold is given back for its caller.
func (h *Hold) overdue() {
	atLimit := h.EndOverdue()
	log := h.manager.cfg.Log.With(zap.Int64("token", h.Token()), zap.NamedError("cause", h.Ended()))
	switch {
	case atLimit:
		log.Warn("a hold has reached its limit, and its context has ended")
	case h.giveBack():
		log.Error("a hold that has reached its limit was not released in time; it is released, although its work may continue")
	}
}

// leaveAtOnce deletes the key in the goroutine of the last holder, by one request. It returns nil
// if the deletion is confirmed, which spares the way through the worker. Otherwise the worker does
// the rest, and knows that the key may be gone already; the channel is closed when it is through.
// handed is why the successor, if there is one, is not the next holder.
func (m *Manager) leaveAtOnce(ctx context.Context, d *local.Deletion, successor *mvccpb.KeyValue) (settled <-chan struct{}, handed error) {
	if ctx.Err() != nil || d.Lease.Err() != nil {
		if successor != nil {
			handed = ErrNotHanded
		}
		return d.Left(false, nil), handed
	}
	if successor == nil && m.mayEnterAgain(d) {
		if a := d.Again(); a != nil {
			return m.leaveAndEnter(ctx, d, a), nil
		}
	}
	deleted, handed, err := m.leaveTo(ctx, d, successor)
	return d.Left(deleted, err), handed
}

// mayEnterAgain tells whether no key of the session stands under the name but the one that is deleted, as far
// as is known.
func (m *Manager) mayEnterAgain(d *local.Deletion) bool {
	name := d.Queue.Name()
	return d.Entry.Marked() && !m.MayStand(d.Lease.ID(), name) &&
		!m.sweeper.Uncertain(d.Lease, name, wire.MarkedSlot(0)) && !m.sweeper.Uncertain(d.Lease, name, wire.MarkedSlot(1))
}

// leaveAndEnter deletes the key and enters for a waiter of the session, in the goroutine of the last holder.
func (m *Manager) leaveAndEnter(ctx context.Context, d *local.Deletion, a *local.Attempt) (settled <-chan struct{}) {
	deleted, err := false, errCutOff // also if the client's code panics, or ends the goroutine
	defer func() { settled = d.LeftAgain(a, deleted, err) }()
	ctx, pooled := m.cfg.Writer.RequestContext(d.Lease.Context(), ctx)
	defer pooled.Release()
	deleted, a.Entry, err = d.Queue.Single.LeaveAndEnter(ctx, d.Entry, a.Of.Wants(d.Lease, a.Slot))
	a.Of.Entered(a.Entry)
	return nil
}

// errCutOff is why a request has no answer that has not returned.
var errCutOff = errors.New("cut off")

// leaveTo deletes the key, and makes the successor the next one, if there is one.
func (m *Manager) leaveTo(ctx context.Context, d *local.Deletion, successor *mvccpb.KeyValue) (deleted bool, handed, err error) {
	if successor == nil {
		deleted, err = m.leaveOnce(ctx, d)
		return deleted, nil, err
	}
	whole, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.Lease.Context(), cancel)()
	switch handed = m.cfg.Queues.Queue(d.Queue.Name()).HandTo(whole, d.Entry, successor); {
	case errors.Is(handed, queue.ErrNoTarget):
		deleted, err = m.leaveOnce(ctx, d)
		return deleted, handed, err
	case errors.Is(handed, lockerr.ErrEvicted):
		return false, ErrNotHanded, nil
	default:
		return handed == nil, handed, handed
	}
}

// leaveOnce deletes the key by one request.
func (m *Manager) leaveOnce(ctx context.Context, d *local.Deletion) (deleted bool, err error) {
	ctx, pooled := m.cfg.Writer.RequestContext(d.Lease.Context(), ctx)
	defer pooled.Release()
	return m.cfg.Queues.LeaveOnce(ctx, d.Entry)
}
