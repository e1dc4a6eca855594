//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// unreachableEndpoints returns a port that refuses, a port that accepts and does not answer, and a
// host that does not exist.
func unreachableEndpoints(t *testing.T) (refuses, hangs, nameless string) {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	closed := listen()
	require.NoError(t, closed.Close())
	return closed.Addr().String(), listen().Addr().String(), "etcd.invalid:2379"
}

// report R9
func TestEachCommandSaysWhichEndpointsDoNotAnswerAndWhy(t *testing.T) {
	t.Parallel()
	refuses, hangs, nameless := unreachableEndpoints(t)
	all := strings.Join([]string{refuses, hangs, nameless}, ",")
	for what, of := range map[string]struct {
		code int
		args []string
	}{
		"ls":             {exitUnreachable, []string{"ls"}},
		"show":           {exitUnreachable, []string{"show", "x"}},
		"watch":          {exitUnreachable, []string{"watch", "x"}},
		"evict":          {exitUnreachable, []string{"evict", "--yes", "x"}},
		"ask":            {exitUnreachable, []string{"ask", "x"}},
		"ask --timeout":  {exitUnreachable, []string{"ask", "--timeout", "3s", "x"}},
		"deadlocks":      {exitUnreachable, []string{"deadlocks"}},
		"doctor":         {exitFailure, []string{"doctor"}},
		"lock":           {exitUnreachable, []string{"lock", "x", "--", "true"}},
		"lock --timeout": {exitUnreachable, []string{"lock", "--timeout", "3s", "x", "--", "true"}},
		"with a user":    {exitUnreachable, []string{"lock", "--user", "u:p", "--timeout", "3s", "x", "--", "true"}},
		"elect":          {exitUnreachable, []string{"elect", "x", "--", "true"}},
		"observe":        {exitUnreachable, []string{"elect", "--observe", "x"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--command-timeout", "3s"}, of.args...)
			began := time.Now()
			p := startOn(t, all, args...)
			line := ""
			eventually(t, func() bool {
				line, _, _ = strings.Cut(p.stderr.String(), "\n")
				return line != ""
			}, "it says so")
			require.GreaterOrEqual(t, time.Since(began), silenceLimit, line)
			require.Contains(t, line, "etcdlock: etcd does not answer: "+refuses+": connection refused; "+hangs+": no answer, ")
			require.Regexp(t, `; `+nameless+": (no such host|the name cannot be looked up: .*)$", line)
			require.Equal(t, of.code, p.wait())
			if what == "doctor" { // it sends six requests, and each has to end for the same reason
				require.Less(t, time.Since(began), 10*time.Second)
			}
			require.Equal(t, 1, strings.Count(p.stderr.String(), "does not answer:"), "once: %s", &p.stderr)
		})
	}
}

// report R9
func TestTLSThatDoesNotFitIsAReason(t *testing.T) {
	t.Parallel()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.EnableHTTP2, secure.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	with := startOn(t, secure.URL, "ls")
	without := startOn(t, secure.Listener.Addr().String(), "ls")
	plain := startOn(t, "https://"+dev.endpoint, "ls")
	for p, reason := range map[*process]string{
		with:    `TLS: tls: failed to verify certificate: x509: certificate signed by unknown authority`,
		without: `error reading server preface: .*\(does it need TLS, or is it not an etcd\?\)`,
		plain:   `TLS: .* \(does it serve TLS\?\)`,
	} {
		require.Equal(t, exitUnreachable, p.wait())
		require.Regexp(t, `(?m)^etcdlock: etcd does not answer: \S+: `+reason+"$", p.stderr.String())
	}
}

// report R9
func TestWithOneGoodEndpointNothingIsSaid(t *testing.T) {
	t.Parallel()
	refuses, hangs, nameless := unreachableEndpoints(t)
	all := strings.Join([]string{refuses, hangs, nameless, dev.endpoint}, ",")
	name := nameOf(t)
	for _, args := range [][]string{{"show", name}, {"lock", name, "--", "sleep", "4"}} {
		p := startOn(t, all, args...)
		p.wait()
		if args[0] == "show" { // it says that the name is free
			require.NotContains(t, p.stderr.String(), "answer")
			require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "%s", &p.stderr)
			continue
		}
		require.Empty(t, p.stderr.String(), "%v", args)
	}
}

// report R9: an etcd that begins to hang while a command waits, and its return, are printed too.
func TestACommandThatWaitsSaysOnceThatEtcdIsAwayAndOnceThatItIsBack(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	first, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	proxy, err := faultproxy.New(dev.endpoint)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	endpoint := proxy.Endpoints()[0]
	all := map[string]*process{
		"lock":    startOn(t, endpoint, "lock", "--ttl", "120s", name, "--", "true"),
		"elect":   startOn(t, endpoint, "elect", "--ttl", "120s", "--once", name, "--", "true"),
		"ask":     startOn(t, endpoint, "ask", name),
		"observe": startOn(t, endpoint, "elect", "--observe", name),
		"watch":   startOn(t, endpoint, "watch", name),
	}
	eventually(t, func() bool { return len(keysOf(t, name+"/")) == 3 }, "they wait")
	require.NotEmpty(t, receive(t, all["observe"].lines, "the holder"))
	require.Contains(t, receive(t, all["watch"].lines, "the holder"), "holds")
	eventually(t, func() bool { return len(keysOf(t, name+"\x00")) > 0 }, "it was asked for")
	for _, outage := range []int{1, 2} {
		proxy.Hold()
		for what, p := range all {
			eventually(t, func() bool {
				return strings.Count(p.stderr.String(), "etcdlock: etcd does not answer: "+endpoint+": no answer, as from a member that hangs or is cut off\n") == outage
			}, what)
		}
		proxy.Resume()
		for what, p := range all {
			eventually(t, func() bool { return strings.Count(p.stderr.String(), "etcdlock: etcd answers again, after ") == outage }, what)
			require.Equal(t, outage, strings.Count(p.stderr.String(), "does not answer"), "%s: %s", what, &p.stderr)
		}
	}
	require.NoError(t, first.Unlock(t.Context()))
	for _, what := range []string{"lock", "elect", "ask"} {
		require.Zero(t, all[what].wait(), "%s: %s", what, &all[what].stderr)
	}
}

// silenced is a silence in virtual time.
func silenced(t *testing.T, f func(w *silence, out *safeBuffer)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		out := &safeBuffer{}
		w := &silence{out: out}
		w.options(func(context.Context) []string { return []string{"a: the reason"} })
		remove := w.add(nil)
		defer synctest.Wait()
		defer remove()
		f(w, out)
	})
}

// try is a request that ends after a time.
func (w *silence) try(after time.Duration, err error) {
	_ = w.unary(context.Background(), "", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		time.Sleep(after)
		return err
	})
}

// report R9
func TestASilenceIsToldWithinTwoSecondsAndNoneThatIsShorter(t *testing.T) {
	silenced(t, func(w *silence, out *safeBuffer) {
		for range 5 {
			w.try(1850*time.Millisecond, nil)
			w.try(1850*time.Millisecond, rpctypes.ErrGRPCPermissionDenied)
			time.Sleep(time.Minute)
		}
		require.Empty(t, out.String(), "a slow etcd answers, and so does one that refuses")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.try(12*time.Second, nil)
		}()
		time.Sleep(2 * time.Second)
		require.Equal(t, "etcdlock: etcd does not answer: a: the reason\n", out.String())
		<-ended
		time.Sleep(time.Minute)
		require.Equal(t, "etcdlock: etcd does not answer: a: the reason\netcdlock: etcd answers again, after 12s\n", out.String())
	})
}

// report R9: the time counts from the connection, and not while the process is stopped.
func TestWhatIsNoSilence(t *testing.T) {
	silenced(t, func(w *silence, out *safeBuffer) {
		_ = w.unary(context.Background(), "", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			time.Sleep(1850 * time.Millisecond)
			sent{w}.HandleRPC(ctx, &stats.OutHeader{})
			time.Sleep(1850 * time.Millisecond)
			return nil
		})
		require.Empty(t, out.String(), "it took long to connect")
		go w.try(900*time.Millisecond, nil)
		synctest.Wait()
		w.mu.Lock()
		w.looked = w.looked.Add(-time.Minute) // as after ^Z and fg
		w.mu.Unlock()
		time.Sleep(time.Minute)
		require.Empty(t, out.String(), "it stood still")
	})
}

// report R9
func TestTriesThatEndWithoutAnAnswerAreOneSilence(t *testing.T) {
	for what, of := range map[string]struct {
		err  error
		told string
	}{
		"no connection":    {status.Error(codes.Unavailable, "connection refused"), "does not answer: a: the reason"},
		"no raft leader":   {rpctypes.ErrGRPCNoLeader, "does not answer: a: the reason"},
		"bounded":          {context.DeadlineExceeded, "does not answer: a: the reason"},
		"a wrong password": {rpctypes.ErrGRPCAuthFailed, "refuses the credentials: etcdserver: authentication failed, invalid user ID or password"},
	} {
		silenced(t, func(w *silence, out *safeBuffer) {
			for range 40 {
				w.try(20*time.Millisecond, of.err)
				time.Sleep(30 * time.Millisecond)
			}
			require.Equal(t, "etcdlock: etcd "+of.told+"\n", out.String(), what)
			for range 100 {
				w.try(20*time.Millisecond, of.err)
				time.Sleep(30 * time.Millisecond)
			}
			require.Equal(t, 1, strings.Count(out.String(), "\n"), "once: %s", out)
			w.try(0, nil)
			time.Sleep(time.Second)
			require.Equal(t, fmt.Sprintf("etcdlock: etcd %s\netcdlock: etcd answers again, after 7s\n", of.told), out.String())
		})
	}
}

// testStream is a stream to which nothing is answered.
type testStream struct {
	grpc.ClientStream
	ended chan error
}

func (s *testStream) SendMsg(any) error { return nil }
func (s *testStream) RecvMsg(any) error { return <-s.ended }

// report R9
func TestAMessageOnAStreamIsAnsweredUnlessTheStreamEnds(t *testing.T) {
	silenced(t, func(w *silence, out *safeBuffer) {
		inner := &testStream{ended: make(chan error)}
		open := func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			return inner, nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		s, err := w.stream(ctx, nil, nil, "", open)
		require.NoError(t, err)
		go func() { _ = s.RecvMsg(nil) }()
		time.Sleep(time.Minute)
		require.Empty(t, out.String(), "a stream at rest owes nothing")
		require.NoError(t, s.SendMsg(nil))
		time.Sleep(time.Second)
		inner.ended <- nil
		time.Sleep(time.Minute)
		require.Empty(t, out.String(), "it was answered")
		require.NoError(t, s.SendMsg(nil))
		time.Sleep(2 * time.Second)
		require.Contains(t, out.String(), "does not answer")
		cancel()
		synctest.Wait()
		w.try(0, nil)
		require.NoError(t, s.SendMsg(nil)) // by a sender that does not know of the end
		time.Sleep(time.Minute)
		require.Equal(t, 2, strings.Count(out.String(), "\n"), "no answer is owed to a stream that has ended: %s", out)
	})
}
