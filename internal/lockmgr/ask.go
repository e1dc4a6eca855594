package lockmgr

import (
	"context"
	"sync"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
)

// Ask asks all present holders of a name to release it; see ask.Requests.
func (m *Manager) Ask(ctx context.Context, r ask.Request) error {
	within := lazyctx.New(ctx)
	defer within.Cancel(context.Canceled)
	ls, err := m.awaitLease(within)
	if err != nil {
		return err
	}
	return m.requests.Ask(ctx, ls, r)
}

// AskLeader asks the leader of an election to resign; see ask.Requests.
func (m *Manager) AskLeader(ctx context.Context, r ask.Request) error {
	within := lazyctx.New(ctx)
	defer within.Cancel(context.Canceled)
	ls, err := m.awaitLease(within)
	if err != nil {
		return err
	}
	return m.requests.AskLeader(ctx, ls, r)
}

// Honour announces that the hold ends when it is asked to, and reports each request until the hold or
// ctx ends, or etcd refuses; see ask.Requests.
func (h *Hold) Honour(ctx context.Context, tell func(r ask.Request, first bool) (done bool)) error {
	ctx, stop := h.Within(ctx)
	defer stop()
	return h.manager.requests.Honour(ctx, h.Lease(), h.Entry(), tell)
}

// Asked returns a channel with each request to release the hold. It is closed when the hold ends.
// The first call starts to listen. All calls of one hold are made with the same T.
func Asked[T any](h *Hold, of func(ask.Request) T) <-chan T {
	told := make(chan T)
	if asked := h.Asked(); !asked.CompareAndSwap(nil, told) {
		return asked.Load().(chan T)
	}
	ctx := h.Context()
	tell := func(r ask.Request) {
		h.Contended()
		select {
		case told <- of(r):
		case <-ctx.Done():
		}
	}
	if !h.manager.Continue(func() {
		defer close(told)
		var names sync.WaitGroup
		for _, e := range h.Entry().Parts() {
			names.Go(func() { h.manager.requests.Hear(ctx, e, tell) })
		}
		names.Wait()
	}) {
		close(told) // the session has ended, and the hold with it
	}
	return told
}
