package etcdlock

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
)

// Ask asks all present holders of a name, as a lock, an election or permits, to release it. It
// blocks until all of them have released, or ctx ends. A holder receives the request from
// [Lock.Asked], if it listens, and decides. No holder is evicted, and the caller does not acquire
// the lock by this call. To acquire the lock, wait in the queue for it.
//
// The request is to sessions. Of goroutines that hand over in memory each is asked. A key that is
// kept by [WithRetention] counts as held for as long as it is kept, unless its last holder has
// received the request.
//
// The request is stored in etcd, beside the queue, while the call blocks, under the lease of the
// session. It is withdrawn when Ask returns, in the background if etcd does not answer.
//
// Errors:
//   - the error of ctx: the holders may continue
//   - [ErrLost] if the lease was lost
//   - [ErrSessionClosed]
//   - [ErrInvalidName]
//   - an error with which etcd refuses the request
func (s *Session) Ask(ctx context.Context, name, reason string) error {
	err := s.usable(name)
	if err == nil {
		err = s.manager.Ask(ctx, s.newRequest(name, reason))
	}
	return opError("ask for", name, err)
}

// newRequest makes a request of this session.
func (s *Session) newRequest(name, reason string) ask.Request {
	return ask.Request{Name: name, Reason: reason, Owner: s.cfg.owner, Host: hostname(), PID: pid(), Since: time.Now().UTC()}
}

// Asked returns a channel with each request to release this hold, by [Session.Ask]. The holder
// decides whether to end soon or to continue. The channel is closed when the hold ends.
//
// The first call starts to listen, with a goroutine and a watch in etcd that end with the hold.
// Earlier requests that still stand are received too. A request waits until it is received.
func (h hold) Asked() <-chan ReleaseRequest {
	if h.of == nil {
		return nil
	}
	return lockmgr.Asked(h.of, func(r ask.Request) ReleaseRequest {
		if h.traced != nil && !h.traced.honours {
			h.traced.asked(ReleaseRequest(r))
		}
		return ReleaseRequest(r)
	})
}
