package simetcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Watch opens a stream of watches.
func (r remote) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	st, err := r.open(ctx, true)
	if err != nil {
		return nil, err
	}
	return watchClientStream{st}, nil
}

type watchClientStream struct{ *stream }

func (w watchClientStream) Send(req *pb.WatchRequest) error {
	var kind Kind
	var handle func(act Action, answer func(any))
	switch req := req.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		kind = Watch
		handle = func(act Action, answer func(any)) { w.feed.create(req.CreateRequest, act.Err, answer) }
	case *pb.WatchRequest_CancelRequest:
		kind = WatchCancel
		handle = func(act Action, answer func(any)) { w.feed.cancel(req.CancelRequest.WatchId, answer) }
	case *pb.WatchRequest_ProgressRequest:
		kind = WatchProgress
		handle = func(act Action, answer func(any)) { w.feed.progressAll(answer) }
	default:
		return nil // etcd ignores what it does not know
	}
	return w.send(kind, req, func(act Action, answer func(any)) {
		switch {
		case w.severed:
		case act.Err != nil && (kind != Watch || !authError(act.Err)):
			w.breakOff(act.Err)
		default:
			handle(act, answer)
		}
	})
}

func (w watchClientStream) Recv() (*pb.WatchResponse, error) {
	msg, err := w.recv()
	if err != nil {
		return nil, err
	}
	return msg.(*pb.WatchResponse), nil
}
