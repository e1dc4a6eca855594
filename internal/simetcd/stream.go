package simetcd

import (
	"context"
	"io"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A stream is the client's end of a watch or keep-alive stream, guarded by the server's mu. Messages of one direction
// keep their order.
type stream struct {
	l             *link
	ctx           context.Context
	requireLeader bool
	feed          *feed // the server's end, of a watch stream
	up, down      int64 // when the last message of either direction arrives
	epoch         int
	mark          uint64 // orders the streams of a client, of a reproducible run

	inbox    []any         // arrived, not yet received
	wake     chan struct{} // holds one: something has happened
	over     bool          // for the client
	severed  bool          // for the server
	err      error         // why it is over
	unfollow func() bool   // stops listening to ctx
}

func (l *link) open(ctx context.Context, watches bool) (*stream, error) {
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	l.srv.mu.Lock()
	defer l.srv.mu.Unlock()
	if l.closed {
		return nil, errClosing
	}
	st := &stream{l: l, ctx: ctx, epoch: l.srv.uptime.epoch, wake: make(chan struct{}, 1)}
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		st.requireLeader = slices.Equal(md.Get(rpctypes.MetadataRequireLeaderKey), []string{rpctypes.MetadataHasLeader})
	}
	if watches {
		st.feed = l.srv.hub.open(st)
	}
	l.streams = append(l.streams, st)
	l.sort(st, watchNumber(ctx))
	// The mutex is held, so that the function cannot find the stream half made.
	st.unfollow = context.AfterFunc(ctx, func() {
		l.locked(func() { st.end(status.FromContextError(ctx.Err()).Err()) })
	})
	return st, nil
}

// end ends the stream on both sides. What has arrived can still be received.
func (st *stream) end(err error) {
	if st.over {
		return
	}
	st.over, st.err = true, err
	st.l.streams = slices.DeleteFunc(st.l.streams, func(o *stream) bool { return o == st })
	st.sever()
	st.unfollow()
	st.ring()
}

// breakOff ends the stream on the server's side; the client hears of it after all that was sent before.
func (st *stream) breakOff(err error) {
	if st.severed {
		return
	}
	st.sever()
	st.l.network.transmit(&message{fifo: &st.down, arrive: func() { st.end(err) }, broken: st.end})
}

// sever ends the server's part.
func (st *stream) sever() {
	st.severed = true
	if st.feed != nil {
		st.feed.hub.close(st.feed)
	}
}

func (st *stream) ring() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// push sends a message to the client: the answer to the nth message of a kind, or, of kind 0, something unasked.
func (st *stream) push(msg any, kind Kind, n int, delay time.Duration) {
	st.l.network.transmit(&message{
		kind: kind, n: n, delay: delay, fifo: &st.down, broken: st.end,
		arrive: func() {
			if !st.over {
				st.inbox = append(st.inbox, msg)
				st.ring()
			}
		},
	})
}

// send sends a message to the server, where handle deals with it. handle gets a function for its answer.
func (st *stream) send(kind Kind, req proto.Message, handle func(act Action, answer func(any))) error {
	l := st.l
	l.srv.mu.Lock()
	over := st.over
	l.srv.mu.Unlock()
	if over || st.ctx.Err() != nil {
		return io.EOF // Recv tells why
	}
	l.stagger(st.ctx, kind, req)
	act, n := l.ask(kind, req)
	if act.DropRequest {
		return nil
	}
	l.srv.mu.Lock()
	defer l.srv.mu.Unlock()
	if st.over {
		return io.EOF
	}
	if r, ok := req.(*pb.LeaseKeepAliveRequest); ok && st.mark == 0 {
		l.sort(st, uint64(r.ID))
	}
	l.network.transmit(&message{
		toServer: true, kind: kind, n: n, delay: act.DelayRequest, fifo: &st.up, broken: st.end,
		arrive: func() {
			if st.epoch != l.srv.uptime.epoch || l.srv.uptime.down {
				return // Stop breaks the stream
			}
			handle(act, func(resp any) {
				if !act.DropReply && act.ErrAfter == nil && !st.severed {
					st.push(resp, kind, n, act.DelayReply)
				}
			})
			if act.ErrAfter != nil {
				st.breakOff(act.ErrAfter)
			}
		},
	})
	return nil
}

// recv returns what has arrived, one message at a time, and then why there is nothing more.
func (st *stream) recv() (any, error) {
	for {
		if st.ctx.Err() != nil {
			return nil, status.FromContextError(st.ctx.Err()).Err()
		}
		st.l.srv.mu.Lock()
		if len(st.inbox) > 0 {
			msg := st.inbox[0]
			st.inbox = st.inbox[1:]
			st.l.srv.mu.Unlock()
			return msg, nil
		}
		over, err := st.over, st.err
		st.l.srv.mu.Unlock()
		if over {
			return nil, err
		}
		select {
		case <-st.wake:
		case <-st.ctx.Done():
		}
	}
}

// The rest of grpc.ClientStream.

func (st *stream) Header() (metadata.MD, error) { return nil, nil }
func (st *stream) Trailer() metadata.MD         { return nil }
func (st *stream) Context() context.Context     { return st.ctx }
func (st *stream) SendMsg(any) error            { panic("simetcd: SendMsg is not for typed streams") }
func (st *stream) RecvMsg(any) error            { panic("simetcd: RecvMsg is not for typed streams") }

// CloseSend does nothing: clientv3 cancels the stream's context as well.
func (st *stream) CloseSend() error { return nil }
