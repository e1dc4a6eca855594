package lockmgr

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Downgrade makes an exclusive hold a shared one, with no other holder in between, and returns the
// shared hold. It blocks until etcd has confirmed that other readers may be admitted, or ctx ends.
func (h *Hold) Downgrade(ctx context.Context) (*Hold, error) {
	if err := h.Err(); err != nil {
		return nil, err
	}
	m := h.manager
	d, err := m.Downgrade(&h.Hold, func(d local.Downgraded) {
		defer close(d.Written)
		h.rewriteShared()
	})
	if err != nil {
		return nil, err
	}
	if d.Detached != nil {
		<-d.Detached // by the worker, which waits for nothing, or by a loss
	}
	select {
	case <-d.Written:
	case <-h.OwnershipContext().Done():
	case <-ctx.Done():
	}
	return h.succeed(d.Grant), nil
}

// succeed makes the hold that takes the place of h.
func (h *Hold) succeed(g local.Grant) *Hold {
	next := &Hold{Hold: h.Succeed(g), manager: h.manager}
	next.GoOn(&h.Hold, next.overdue)
	return next
}

// rewriteShared writes to the key that it is shared.
func (h *Hold) rewriteShared() {
	ctx := h.OwnershipContext()
	err := h.manager.cfg.Queues.Rewrite(ctx, h.Entry(), h.Restate(wire.Holder{Mode: wire.Shared}))
	if err != nil && ctx.Err() == nil && !errors.Is(err, lockerr.ErrEvicted) {
		h.manager.cfg.Log.Error("etcd refuses a downgrade; other sessions cannot read until the lock is released", zap.String("name", h.Name()), zap.Error(err))
	}
}

// Upgrade makes a shared hold an exclusive one, and returns the exclusive hold. It blocks until all
// other readers have released. The shared hold goes on after an error, unless it was lost.
func (h *Hold) Upgrade(ctx context.Context) (*Hold, error) {
	if ctx.Err() != nil {
		return nil, lockerr.OfContext(ctx)
	}
	if err := h.Err(); err != nil {
		return nil, err
	}
	if err := local.CarriedBy(ctx).Besides(&h.Hold); err != nil {
		return nil, err
	}
	for { // at most twice, unless another upgrade comes in between
		u, earlier, err := h.manager.StartUpgrade(&h.Hold, h.upgrade)
		switch {
		case err != nil:
			return nil, err
		case u != nil:
			return h.await(ctx, u)
		}
		select {
		case <-earlier:
		case <-h.Context().Done():
			return nil, h.Err()
		case <-ctx.Done():
			return nil, lockerr.OfContext(ctx)
		}
	}
}

// await waits for the outcome of an upgrade.
func (h *Hold) await(ctx context.Context, u *local.Upgrade) (*Hold, error) {
	defer u.Cancel(nil)
	select {
	case <-u.Told:
	case <-h.Context().Done():
	case <-ctx.Done():
	}
	if left, locked := h.manager.GiveUp(u); left {
		return nil, h.EndedOr(waitError(ctx, locked))
	}
	g, err := u.Outcome()
	if err != nil {
		return nil, err
	}
	return h.succeed(g), nil
}

// upgrade marks the key, waits until all others have left, and makes the reader a writer; or
// takes the mark back.
func (h *Hold) upgrade(wait context.Context, u *local.Upgrade) {
	m := h.manager
	q := m.cfg.Queues.Queue(h.Name())
	defer q.Close()
	rev, err := h.awaitUpgrade(wait, u, q)
	if err == nil && m.Upgraded(u, rev) {
		return
	}
	if err != nil {
		h.refuseUpgrade(u, err)
	}
	h.rewriteShared()
	m.EndUpgrade(u)
}

// awaitUpgrade marks the key, and blocks until no other reader is left, here and elsewhere.
func (h *Hold) awaitUpgrade(ctx context.Context, u *local.Upgrade, q *queue.Queue) (rev int64, err error) {
	if u.Written != nil {
		<-u.Written // the mark would be overwritten; this ends with the lease at the latest
	}
	if err := h.manager.ClearName(ctx, h.Lease(), h.Name()); err != nil {
		return 0, err
	}
	marked, err := q.Upgrade(h.OwnershipContext(), h.Entry(), func(bound int64) string {
		return h.Restate(wire.Holder{Mode: wire.Upgrading, Bound: bound})
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-u.Alone:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	h.manager.Marked(u, marked)
	return q.Await(ctx, marked)
}

// refuseUpgrade gives the caller the reason of a failure.
func (h *Hold) refuseUpgrade(u *local.Upgrade, err error) {
	m := h.manager
	switch {
	case errors.Is(err, admission.ErrUpgrading):
		err = lockerr.ErrUpgradeConflict
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		h.Lease().End(lockerr.Lost(lockerr.ErrRevoked))
	case errors.Is(err, lockerr.ErrEvicted):
		first, d := m.FoundGone(&h.Hold) // else its watch has found it, and reports why; or it was released
		if first {
			d.Of.Lose(m.whyGone(d.Lease, d.Entry))
		} else if h.Ended() == nil {
			<-h.OwnershipContext().Done()
		}
		if errors.Is(err, queue.ErrOverwritten) {
			_, _ = m.line(d.Queue).leave(d.Lease, d.Entry, true) // it is still there, and in others' way
		}
	}
	m.FailUpgrade(u, err)
}
