package simetcd

import (
	"context"
	"io"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

var (
	errUnavailable = status.Error(codes.Unavailable, "simetcd: connection reset")
	errStopped     = status.Error(codes.Unavailable, "simetcd: server stopped")
	errClosing     = status.Error(codes.Canceled, "grpc: the client connection is closing")
)

// A link is the connection of one client. It is guarded by the server's mu.
type link struct {
	srv    *Server
	client io.Closer // the *Client on top of it
	name   string
	salt   uint64 // makes its latencies its own

	network    network
	calls      []*call // in flight
	streams    []*stream
	sent, base [kinds]int
	closed     bool
	closing    chan struct{}
}

// locked runs f under the server's lock.
func (l *link) locked(f func()) {
	l.srv.mu.Lock()
	f()
	l.srv.mu.Unlock()
}

// ready waits until the server runs, as a gRPC call with WaitForReady does, which is clientv3's default.
func (l *link) ready(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		var back <-chan struct{}
		closed := false
		l.locked(func() {
			if closed = l.closed; !closed {
				back = l.srv.uptime.await(l.srv.sched.now())
			}
		})
		switch {
		case closed:
			return errClosing
		case back == nil:
			return nil
		}
		select {
		case <-back:
		case <-l.closing:
		case <-ctx.Done():
		}
	}
}

// A call is a unary request that has not been answered.
type call struct {
	done     chan result // holds one
	finished bool
}

type result struct {
	resp any
	err  error
}

// finish gives a call its result; the first one counts.
func (l *link) finish(c *call, resp any, err error) {
	if c.finished {
		return
	}
	c.finished = true
	l.calls = slices.DeleteFunc(l.calls, func(o *call) bool { return o == c })
	c.done <- result{resp, err}
}

// ask counts a request and asks the hook about it.
func (l *link) ask(kind Kind, req proto.Message) (Action, int) {
	l.srv.mu.Lock()
	l.sent[kind]++
	n := l.sent[kind]
	hook := l.srv.hook
	l.srv.mu.Unlock()
	if hook == nil {
		return Action{}, n
	}
	return hook(Call{Client: l.name, Kind: kind, N: n, Req: req}), n
}

// roundTrip sends a request, has it applied when it arrives, and waits for the answer. When the context ends first, the
// request continues without its caller.
func (l *link) roundTrip(ctx context.Context, kind Kind, req proto.Message, apply func() (any, error)) (any, error) {
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	l.stagger(ctx, kind, req)
	act, n := l.ask(kind, req)
	s := l.srv
	s.mu.Lock()
	if l.closed {
		s.mu.Unlock()
		return nil, errClosing
	}
	c := &call{done: make(chan result, 1)}
	l.calls = append(l.calls, c)
	broken := func(err error) { l.finish(c, nil, err) }
	answer := func(resp any, err error) {
		if act.DropReply {
			return
		}
		l.network.transmit(&message{
			kind: kind, n: n, delay: act.DelayReply, broken: broken,
			arrive: func() { l.finish(c, resp, err) },
		})
	}
	epoch := s.uptime.epoch
	if !act.DropRequest {
		l.network.transmit(&message{
			toServer: true, kind: kind, n: n, delay: act.DelayRequest, broken: broken,
			arrive: func() {
				switch {
				case s.uptime.epoch != epoch:
					// Stop has told the caller.
				case s.uptime.down:
					answer(nil, errStopped)
				case act.Err != nil:
					answer(nil, act.Err)
				default:
					resp, err := apply()
					if act.ErrAfter != nil {
						resp, err = nil, act.ErrAfter
					}
					answer(resp, err)
				}
			},
		})
	}
	s.mu.Unlock()
	select {
	case r := <-c.done:
		return r.resp, r.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	l.finish(c, nil, status.FromContextError(ctx.Err()).Err())
	s.mu.Unlock()
	r := <-c.done // the answer after all, when both came at once
	return r.resp, r.err
}

// breakAll ends all that is open, on the client's side, as a closed connection does. What is on its way to the server
// arrives.
func (l *link) breakAll(err error) {
	l.network.lost = nil
	for _, c := range slices.Clone(l.calls) {
		l.finish(c, nil, err)
	}
	for _, st := range slices.Clone(l.streams) {
		st.end(err)
	}
}

// serverGone reports the server's end to the client, after the latency. A cut stops this report.
func (l *link) serverGone() {
	for _, c := range slices.Clone(l.calls) {
		l.network.transmit(&message{
			arrive: func() { l.finish(c, nil, errStopped) },
			broken: func(err error) { l.finish(c, nil, err) },
		})
	}
	for _, st := range slices.Clone(l.streams) {
		st.breakOff(errStopped)
	}
}

func (l *link) close() {
	if l.closed {
		return
	}
	l.closed = true
	close(l.closing)
	l.breakAll(errClosing)
	l.srv.links = slices.DeleteFunc(l.srv.links, func(o *link) bool { return o == l })
}
