// Package fencehttp sends fencing tokens with HTTP requests and checks them at the server.
//
//	client := &http.Client{Transport: &fencehttp.Transport{}}
//	ctx := fence.WithToken(lock.Context(), fence.Of(lock, 0))
//	request, err := http.NewRequestWithContext(ctx, "PUT", "http://ledger/accounts/7", body)
//
//	mux.Handle("PUT /accounts/{id}", fencehttp.Middleware(checker, func(r *http.Request) string {
//		return "accounts/" + r.PathValue("id")
//	})(handler))
//
// The check of the middleware comes before the handler, and a newer token can claim the resource
// between the two. A handler with a database checks in its own transaction instead, with [Token] and
// [Refuse].
package fencehttp

import (
	"errors"
	"net/http"

	"github.com/etcdlock/etcdlock/fence"
)

const (
	// TokenHeader is the header of a request with its token, as in "0.4711". A number alone is a
	// token of epoch 0.
	TokenHeader = "Fencing-Token"
	// SeenHeader is the header of an answer of 412 with the newer token.
	SeenHeader = "Fencing-Token-Seen"
	// ResourceHeader is the header of an answer of 412 with the resource.
	ResourceHeader = "Fencing-Resource"
)

// Transport sends the token that the context of a request carries, see [fence.WithToken]. A request
// without a token is sent as it is.
type Transport struct {
	// Base sends the requests. Nil is http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if token, ok := fence.FromContext(r.Context()); ok {
		r = r.Clone(r.Context()) // a RoundTripper does not change the request of its caller
		r.Header.Set(TokenHeader, token.String())
	}
	return base.RoundTrip(r)
}

// Stale returns a [*fence.Stale] if the server refused the token of a request, and nil for every
// other answer.
func Stale(resp *http.Response) error {
	seen := resp.Header.Get(SeenHeader)
	if resp.StatusCode != http.StatusPreconditionFailed || seen == "" {
		return nil // another 412, such as one for an If-Match
	}
	stale := &fence.Stale{Resource: resp.Header.Get(ResourceHeader)}
	stale.Seen, _ = fence.Parse(seen)
	if resp.Request != nil {
		stale.Token, _ = fence.FromContext(resp.Request.Context())
	}
	return stale
}

// Middleware checks the token of each request before the handler. resource names what a request
// writes to, from facts that the server knows, and never from a name that the client chose for the
// check. A request with the resource "" only reads, and is not checked.
//
// The handler gets the token by [fence.FromContext]. It is not called if there is no token or the
// checker returns an error, which [Refuse] answers.
func Middleware(checker fence.Checker, resource func(*http.Request) string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := resource(r)
			if name == "" {
				next.ServeHTTP(w, r)
				return
			}
			token, err := Token(r)
			if err == nil {
				err = checker.Check(r.Context(), name, token)
			}
			if err != nil {
				Refuse(w, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(fence.WithToken(r.Context(), token)))
		})
	}
}

var errMissing = errors.New("a fencing token is required: send the header " + TokenHeader)

// Token returns the token of a request. The error for no token, for an invalid one and for several
// is one for [Refuse].
func Token(r *http.Request) (fence.Token, error) {
	switch values := r.Header.Values(TokenHeader); len(values) {
	case 0:
		return fence.Token{}, errMissing
	case 1:
		return fence.Parse(values[0])
	}
	return fence.Token{}, errors.Join(fence.ErrInvalid, errors.New("several headers "+TokenHeader+": send one"))
}

// Refuse answers a request for which [Token] or a [fence.Checker] returned err:
//
//   - a stale token: 412 Precondition Failed, with the newer token in [SeenHeader],
//   - no token: 428 Precondition Required,
//   - an invalid token: 400 Bad Request,
//   - any other error: 503 Service Unavailable, without its text, which clients must not see.
func Refuse(w http.ResponseWriter, err error) {
	var stale *fence.Stale
	switch {
	case errors.As(err, &stale):
		w.Header().Set(SeenHeader, stale.Seen.String())
		w.Header().Set(ResourceHeader, stale.Resource)
		http.Error(w, err.Error(), http.StatusPreconditionFailed)
	case errors.Is(err, errMissing):
		http.Error(w, err.Error(), http.StatusPreconditionRequired)
	case errors.Is(err, fence.ErrInvalid):
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		http.Error(w, "the write failed: try again while the lock is held", http.StatusServiceUnavailable)
	}
}
