package etcdkv

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/sharedtimer"
)

// Policy is how Retry asks.
type Policy struct {
	// First is the pause after the first try. The pauses double up to Longest, and Seed spreads
	// them between half of that and the whole: each session has a seed of its own.
	First, Longest time.Duration
	Seed           int64

	// Failed is the number of tries that have failed before the first one. If it is not 0, there is
	// a pause before the first try too, and the pauses begin longer.
	Failed int

	// Persist is true if an answer by which etcd refuses the request does not end the tries.
	Persist bool

	// Bound bounds try n, counted from 0.
	Bound func(ctx context.Context, n int) (context.Context, context.CancelFunc)

	// Client ends the tries with lockerr.ErrClientClosed when it is closed. It is nil if the context
	// of the caller ends with the client.
	Client *clientv3.Client
}

// Retry calls try until etcd gives an answer that counts, or ctx ends, or the client of the policy
// is closed. After the end of ctx its error is the cause of ctx. The request must be one that can
// be sent twice.
//
// unanswered reports that a try got no answer: it is not known whether this try took effect, or
// still will.
func Retry(ctx context.Context, p Policy, try func(context.Context) error) (unanswered bool, err error) {
	if p.Failed > 0 {
		if err := p.pause(ctx, -1); err != nil {
			return false, err
		}
	}
	for n := 0; ; n++ {
		bounded, cancel := p.Bound(ctx, n)
		err = try(bounded)
		cancel()
		switch {
		case err == nil:
			return unanswered, nil
		case ctx.Err() != nil:
			return true, context.Cause(ctx)
		case !answer.Final(err):
			unanswered = true
		case !p.Persist:
			return unanswered, err
		}
		if err := p.pause(ctx, n); err != nil {
			return true, err
		}
	}
}

// pause waits after try n, or before the first one if n is -1.
func (p *Policy) pause(ctx context.Context, n int) error {
	var closed <-chan struct{}
	if p.Client != nil {
		closed = p.Client.Ctx().Done()
	}
	t := time.NewTimer(backoff.Delay(p.Failed+n, p.First, p.Longest, p.Seed))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-closed:
		return lockerr.ErrClientClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	// FirstBound is the bound of the first tries. It is short: a member that hangs with its
	// connections open answers nothing, a member that has lost its leader answers after seconds,
	// and the next try goes to another member.
	FirstBound = time.Second

	// LastBound is the bound of a try after several others. A write that etcd received just before
	// its raft leader died is answered after 5 s ("request timed out"), while another try would
	// succeed after the 1.5 s that a new leader takes.
	LastBound = 3 * time.Second

	// firstPause and longestPause are those between the tries of a session's requests.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
)

// Bound is how long try n of a request waits for its answer.
func Bound(n int) time.Duration {
	return min(FirstBound<<min(max(n-1, 0), 2), LastBound) // a larger shift would leave nothing
}

// WithBound bounds try n by a timer of its own.
func WithBound(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, Bound(n))
}

// Requests is the policy for the requests of a caller that has no Writer.
func Requests(seed int64) Policy {
	return Policy{First: firstPause, Longest: longestPause, Seed: seed, Bound: WithBound}
}

// Requests is the policy for the session's requests. The first tries share timers, and do not tell
// the server their deadline.
func (w *Writer) Requests(seed int64) Policy {
	return Policy{First: firstPause, Longest: longestPause, Seed: seed, Bound: w.bound}
}

// Pause is how long a session waits after try n of something that failed.
func Pause(n int, seed int64) time.Duration {
	return backoff.Delay(n, firstPause, longestPause, seed)
}

// bounded bounds try n.
func (w *Writer) bounded(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	if Bound(n) == FirstBound {
		return w.firstTries.Context(ctx)
	}
	return WithBound(ctx, n)
}

// RequestContext bounds one try of a request that a caller sends by itself, under a lease.
func (w *Writer) RequestContext(lease, caller context.Context) (context.Context, *sharedtimer.Pooled) {
	ctx, l := w.contexts.Take(lease, caller)
	l.Once = w.config.Direct == nil // a replacement of clientv3's KV may keep the context
	return ctx, l
}
