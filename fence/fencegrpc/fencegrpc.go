// Package fencegrpc sends fencing tokens with gRPC calls and checks them at the server.
//
//	conn, err := grpc.NewClient(target, grpc.WithUnaryInterceptor(fencegrpc.UnaryClient), grpc.WithStreamInterceptor(fencegrpc.StreamClient))
//	ctx := fence.WithToken(lock.Context(), fence.Of(lock, 0))
//
//	server := grpc.NewServer(grpc.UnaryInterceptor(fencegrpc.UnaryServer(checker, resource)))
//
// The check of the interceptor comes before the handler. A newer token can claim the resource between
// the two, so a handler with a database of its own checks again in its transaction, with the token of
// [fence.FromContext].
package fencegrpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdlock/etcdlock/fence"
)

// TokenKey is the key of the metadata of a call with its token, as in "0.4711".
const TokenKey = "fencing-token"

// Reason and Domain are those of the ErrorInfo in the status of a refused call. Its metadata has
// the keys resource, token and seen.
const (
	Reason = "STALE_FENCING_TOKEN"
	Domain = "etcdlock"
)

// Resource names what a message writes to, from facts that the server knows, and never from a name
// that the client chose for the check. A message with the resource "" only reads, and is not
// checked. method is the full name of the method, as in "/ledger.Ledger/Put".
type Resource func(ctx context.Context, method string, message any) string

// UnaryClient is a [grpc.UnaryClientInterceptor]. It sends the token that the context carries, see
// [fence.WithToken]. The error of a refused call is a [*fence.Stale] that also has the status.
func UnaryClient(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return translate(invoke(outgoing(ctx), method, req, reply, conn, opts...))
}

// StreamClient is a [grpc.StreamClientInterceptor], for streams what [UnaryClient] is for calls.
// The server checks the token of the stream with each message.
func StreamClient(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(outgoing(ctx), desc, conn, method, opts...)
	if err != nil {
		return nil, translate(err)
	}
	return clientStream{stream}, nil
}

type clientStream struct{ grpc.ClientStream }

func (s clientStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if errors.Is(err, io.EOF) {
		return err
	}
	return translate(err)
}

func outgoing(ctx context.Context) context.Context {
	if token, ok := fence.FromContext(ctx); ok {
		return metadata.AppendToOutgoingContext(ctx, TokenKey, token.String())
	}
	return ctx
}

// UnaryServer checks the token of each call before its handler, which gets it by
// [fence.FromContext]. The handler is not called for
//
//   - a stale token: FailedPrecondition, with an ErrorInfo,
//   - no token or an invalid one: InvalidArgument,
//   - any other error of the checker: Unavailable.
func UnaryServer(checker fence.Checker, resource Resource) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		ctx, err := check(ctx, checker, resource(ctx, info.FullMethod, req))
		if err != nil {
			return nil, err
		}
		return handle(ctx, req)
	}
}

// StreamServer checks the token of a stream with each message that arrives on it, because a stream
// can outlive the hold of its client. RecvMsg of the handler's stream returns the error.
func StreamServer(checker fence.Checker, resource Resource) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		return handle(srv, &serverStream{ServerStream: stream, check: func(message any) error {
			_, err := check(stream.Context(), checker, resource(stream.Context(), info.FullMethod, message))
			return err
		}})
	}
}

type serverStream struct {
	grpc.ServerStream
	check func(message any) error
}

// Context carries the token of the stream from the beginning, before a message has passed the check.
func (s *serverStream) Context() context.Context {
	ctx := s.ServerStream.Context()
	if token, err := incoming(ctx); err == nil {
		ctx = fence.WithToken(ctx, token)
	}
	return ctx
}

func (s *serverStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return s.check(message)
}

// check returns the context of the handler, or an error with a status.
func check(ctx context.Context, checker fence.Checker, resource string) (context.Context, error) {
	if resource == "" {
		return ctx, nil
	}
	token, err := incoming(ctx)
	if err == nil {
		err = checker.Check(ctx, resource, token)
	}
	var stale *fence.Stale
	switch {
	case err == nil:
		return fence.WithToken(ctx, token), nil
	case errors.As(err, &stale):
		return nil, refusal(stale)
	case errors.Is(err, fence.ErrInvalid):
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	// The text of a database's error is nothing for clients.
	return nil, status.Error(codes.Unavailable, "the fencing token could not be checked: try again while the lock is held")
}

var errMissing = errors.Join(fence.ErrInvalid, errors.New("one fencing token is required in the metadata, as "+TokenKey))

func incoming(ctx context.Context) (fence.Token, error) {
	values := metadata.ValueFromIncomingContext(ctx, TokenKey)
	if len(values) != 1 {
		return fence.Token{}, errMissing
	}
	return fence.Parse(values[0])
}

func refusal(stale *fence.Stale) error {
	st := status.New(codes.FailedPrecondition, stale.Error())
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: Reason, Domain: Domain, Metadata: map[string]string{
		"resource": stale.Resource, "token": stale.Token.String(), "seen": stale.Seen.String(),
	}})
	if err != nil { // a resource that is not UTF-8
		return st.Err()
	}
	return detailed.Err()
}

// staleError is a [*fence.Stale] with the status of the call.
type staleError struct {
	*fence.Stale
	status *status.Status
}

func (e *staleError) GRPCStatus() *status.Status { return e.status }
func (e *staleError) Unwrap() error              { return e.Stale }

// translate turns the status of a refused call into a staleError.
func translate(err error) error {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.FailedPrecondition {
		return err
	}
	for _, detail := range st.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetReason() != Reason || info.GetDomain() != Domain {
			continue
		}
		stale := &fence.Stale{Resource: info.GetMetadata()["resource"]}
		stale.Token, _ = fence.Parse(info.GetMetadata()["token"])
		stale.Seen, _ = fence.Parse(info.GetMetadata()["seen"])
		return &staleError{stale, st}
	}
	return err
}
