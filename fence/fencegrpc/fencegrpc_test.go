package fencegrpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencegrpc"
)

// ledger has a method Put, which writes, a method Get, which reads, and a stream Feed of writes.
type ledger struct{ tokens []fence.Token }

const (
	putMethod  = "/ledger.Ledger/Put"
	getMethod  = "/ledger.Ledger/Get"
	feedMethod = "/ledger.Ledger/Feed"
)

func (l *ledger) note(ctx context.Context) {
	if token, ok := fence.FromContext(ctx); ok {
		l.tokens = append(l.tokens, token)
	}
}

func (l *ledger) desc() *grpc.ServiceDesc {
	unary := func(name, method string) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, func(ctx context.Context, req any) (any, error) {
				l.note(ctx)
				return req, nil
			})
		}}
	}
	return &grpc.ServiceDesc{
		ServiceName: "ledger.Ledger", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{unary("Put", putMethod), unary("Get", getMethod)},
		Streams: []grpc.StreamDesc{{StreamName: "Feed", ClientStreams: true, ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			for {
				in := new(wrapperspb.StringValue)
				if err := s.RecvMsg(in); err != nil {
					if errors.Is(err, io.EOF) {
						return nil
					}
					return err
				}
				l.note(s.Context())
				if err := s.SendMsg(in); err != nil {
					return err
				}
			}
		}}},
	}
}

func writesTo(_ context.Context, method string, message any) string {
	if method == getMethod {
		return ""
	}
	return message.(*wrapperspb.StringValue).GetValue()
}

// dial serves the ledger on loopback and returns a connection with the interceptors.
func dial(t *testing.T, l *ledger, checker fence.Checker) *grpc.ClientConn {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.UnaryInterceptor(fencegrpc.UnaryServer(checker, writesTo)), grpc.StreamInterceptor(fencegrpc.StreamServer(checker, writesTo)))
	server.RegisterService(l.desc(), l)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(fencegrpc.UnaryClient), grpc.WithStreamInterceptor(fencegrpc.StreamClient))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-served)
	})
	return conn
}

func call(ctx context.Context, conn *grpc.ClientConn, method, resource string) error {
	return conn.Invoke(ctx, method, wrapperspb.String(resource), new(wrapperspb.StringValue))
}

func with(t *testing.T, value int64) context.Context {
	return fence.WithToken(t.Context(), fence.Token{Value: value})
}

const account = "accounts/7"

func TestAStaleCallDoesNotReachTheHandlerAndIsToldTheNewerToken(t *testing.T) {
	l := new(ledger)
	conn := dial(t, l, fence.NewMemory())
	require.NoError(t, call(with(t, 5), conn, putMethod, account))
	require.NoError(t, call(with(t, 1<<53+1), conn, putMethod, account))
	err := call(with(t, 5), conn, putMethod, account)
	require.ErrorIs(t, err, fence.ErrStale)
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	var stale *fence.Stale
	require.ErrorAs(t, err, &stale)
	require.Equal(t, &fence.Stale{Resource: account, Token: fence.Token{Value: 5}, Seen: fence.Token{Value: 1<<53 + 1}}, stale)
	require.Equal(t, []fence.Token{{Value: 5}, {Value: 1<<53 + 1}}, l.tokens)
}

// A stream that was opened by the holder outlives the hold.
func TestAStreamIsCheckedWithEachMessage(t *testing.T) {
	l := new(ledger)
	conn := dial(t, l, fence.NewMemory())
	stream, err := conn.NewStream(with(t, 5), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, feedMethod)
	require.NoError(t, err)
	exchange := func() error {
		if err := stream.SendMsg(wrapperspb.String(account)); err != nil {
			return err
		}
		return stream.RecvMsg(new(wrapperspb.StringValue))
	}
	require.NoError(t, exchange())
	require.NoError(t, exchange())
	require.NoError(t, call(with(t, 9), conn, putMethod, account))
	require.ErrorIs(t, exchange(), fence.ErrStale)
	require.Equal(t, []fence.Token{{Value: 5}, {Value: 5}, {Value: 9}}, l.tokens)
}

func TestAStreamEndsAsWithoutInterceptors(t *testing.T) {
	conn := dial(t, new(ledger), fence.NewMemory())
	stream, err := conn.NewStream(with(t, 5), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, feedMethod)
	require.NoError(t, err)
	require.NoError(t, stream.CloseSend())
	require.Equal(t, io.EOF, stream.RecvMsg(new(wrapperspb.StringValue)))
}

type checkFunc func() error

func (f checkFunc) Check(context.Context, string, fence.Token) error { return f() }

func TestEachRefusalHasItsCode(t *testing.T) {
	l := new(ledger)
	conn := dial(t, l, checkFunc(func() error { return errors.New("password of the database") }))
	code := func(ctx context.Context) codes.Code { return status.Code(call(ctx, conn, putMethod, account)) }
	require.Equal(t, codes.InvalidArgument, code(t.Context()))
	require.Equal(t, codes.InvalidArgument, code(metadata.AppendToOutgoingContext(t.Context(), fencegrpc.TokenKey, "lots")))
	require.Equal(t, codes.InvalidArgument, code(metadata.AppendToOutgoingContext(with(t, 5), fencegrpc.TokenKey, "0.9")))
	err := call(with(t, 5), conn, putMethod, account)
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.NotContains(t, err.Error(), "password")
	require.Empty(t, l.tokens)
}

// Pitfall 9.
func TestCallsThatReadAreNotChecked(t *testing.T) {
	conn := dial(t, new(ledger), fence.NewMemory())
	require.NoError(t, call(with(t, 9), conn, putMethod, account))
	require.NoError(t, call(with(t, 5), conn, getMethod, account))
	require.NoError(t, call(t.Context(), conn, getMethod, account))
}
