package fencehttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencehttp"
)

var client = &http.Client{Transport: &fencehttp.Transport{}}

// writesTo is the resource of a request: its path, and nothing for a read.
func writesTo(r *http.Request) string {
	if r.Method == http.MethodGet {
		return ""
	}
	return strings.TrimPrefix(r.URL.Path, "/")
}

// serve serves a handler behind a checker and returns the address.
func serve(t *testing.T, checker fence.Checker, handler http.HandlerFunc) string {
	server := httptest.NewServer(fencehttp.Middleware(checker, writesTo)(handler))
	t.Cleanup(server.Close)
	return server.URL
}

func send(t *testing.T, ctx context.Context, method, url string, header ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	require.NoError(t, err)
	for _, value := range header {
		request.Header.Add(fencehttp.TokenHeader, value)
	}
	resp, err := client.Do(request)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	require.NoError(t, resp.Body.Close())
	return resp
}

func with(t *testing.T, value int64) context.Context {
	return fence.WithToken(t.Context(), fence.Token{Value: value})
}

func TestAStaleRequestDoesNotReachTheHandlerAndIsToldTheNewerToken(t *testing.T) {
	var got []fence.Token
	url := serve(t, fence.NewMemory(), func(_ http.ResponseWriter, r *http.Request) {
		token, _ := fence.FromContext(r.Context())
		got = append(got, token)
	}) + "/accounts/7"
	require.NoError(t, fencehttp.Stale(send(t, with(t, 5), "PUT", url)))
	require.NoError(t, fencehttp.Stale(send(t, with(t, 1<<53+1), "PUT", url)))
	resp := send(t, with(t, 5), "PUT", url)
	require.Equal(t, http.StatusPreconditionFailed, resp.StatusCode)
	err := fencehttp.Stale(resp)
	require.ErrorIs(t, err, fence.ErrStale)
	require.Equal(t, &fence.Stale{Resource: "accounts/7", Token: fence.Token{Value: 5}, Seen: fence.Token{Value: 1<<53 + 1}}, err)
	require.Equal(t, []fence.Token{{Value: 5}, {Value: 1<<53 + 1}}, got)
}

func TestEachRefusalHasItsStatus(t *testing.T) {
	broken := checkFunc(func() error { return errors.New("password of the database") })
	url := serve(t, broken, func(http.ResponseWriter, *http.Request) { t.Error("called") }) + "/accounts/7"
	require.Equal(t, http.StatusPreconditionRequired, send(t, t.Context(), "PUT", url).StatusCode)
	require.Equal(t, http.StatusBadRequest, send(t, t.Context(), "PUT", url, "").StatusCode)
	require.Equal(t, http.StatusBadRequest, send(t, t.Context(), "PUT", url, "lots").StatusCode)
	require.Equal(t, http.StatusBadRequest, send(t, t.Context(), "PUT", url, "0.4", "0.5").StatusCode)
	require.Equal(t, http.StatusServiceUnavailable, send(t, with(t, 5), "PUT", url).StatusCode)
}

type checkFunc func() error

func (f checkFunc) Check(context.Context, string, fence.Token) error { return f() }

// Pitfall 9: a reader needs no token, and can see what a stale holder has written before the next claim.
func TestReadsAreNotChecked(t *testing.T) {
	calls := 0
	url := serve(t, fence.NewMemory(), func(http.ResponseWriter, *http.Request) { calls++ }) + "/accounts/7"
	send(t, with(t, 9), "PUT", url)
	require.Equal(t, http.StatusOK, send(t, with(t, 5), "GET", url).StatusCode)
	require.Equal(t, http.StatusOK, send(t, t.Context(), "GET", url).StatusCode)
	require.Equal(t, 3, calls)
}

// A 412 that a handler gives for an If-Match says nothing of tokens.
func TestAnotherPreconditionIsNoStaleToken(t *testing.T) {
	url := serve(t, fence.NewMemory(), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPreconditionFailed) })
	require.NoError(t, fencehttp.Stale(send(t, with(t, 5), "PUT", url+"/accounts/7")))
}

// Pitfall 11: a service that calls another one passes the token of its caller on, and the second
// one keeps it for the resource of the first.
func TestATokenGoesOnToTheNextService(t *testing.T) {
	second := serve(t, fence.NewMemory(), func(http.ResponseWriter, *http.Request) {}) + "/accounts/7"
	first := serve(t, fence.NewMemory(), func(w http.ResponseWriter, r *http.Request) {
		request, _ := http.NewRequestWithContext(r.Context(), "PUT", second, http.NoBody)
		resp, err := client.Do(request)
		if err == nil {
			err = fencehttp.Stale(resp)
			resp.Body.Close()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	}) + "/accounts/7"
	require.Equal(t, http.StatusOK, send(t, with(t, 5), "PUT", first).StatusCode)
	require.Equal(t, http.StatusOK, send(t, with(t, 9), "PUT", second).StatusCode)
	require.Equal(t, http.StatusConflict, send(t, with(t, 5), "PUT", first).StatusCode)
}
