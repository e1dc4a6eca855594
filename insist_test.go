package etcdlock

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report R4: a request that hangs, as on a member that is stopped with its connections open, is sent
// again soon, and the next try is answered.
func TestARequestThatHangsIsSentAgainSoon(t *testing.T) {
	session := func(_ *Session, w *world, opts ...SessionOption) error {
		opts = append([]SessionOption{WithTTL(ttl), renewOn(w.Client("b"))}, opts...)
		s, err := NewSession(w.ctx, w.Client("b").Client, opts...)
		if err == nil {
			w.sessions = append(w.sessions, s)
		}
		return err
	}
	const held, left = "held", "left"
	for what, call := range map[string]func(w *world, s *Session) error{
		"new session":          func(w *world, s *Session) error { return session(s, w) },
		"take over":            func(w *world, s *Session) error { return session(s, w, WithLease(w.GrantLease(ttl))) },
		"lease file":           func(w *world, s *Session) error { return session(s, w, WithLeaseFile(w.TempDir()+"/lease")) },
		"queue":                func(w *world, s *Session) error { _, err := NewMutex(s, "m").Queue(w.ctx); return err },
		"leader":               func(w *world, s *Session) error { _, err := NewElection(s, "e").Leader(w.ctx); return err },
		"candidates":           func(w *world, s *Session) error { _, err := NewElection(s, "e").Candidates(w.ctx); return err },
		"limit":                func(w *world, s *Session) error { _, err := NewSemaphore(s, "s", 2).Limit(w.ctx); return err },
		"set limit":            func(w *world, s *Session) error { return NewSemaphore(s, "s", 2).SetLimit(w.ctx, 3) },
		"set limit of holders": func(w *world, s *Session) error { return NewSemaphore(s, held, 2).SetLimit(w.ctx, 3) },
		"ask":                  func(w *world, s *Session) error { return s.Ask(w.ctx, held, "reason") },
		"inherited": func(w *world, _ *Session) error {
			names, err := w.sessions[1].Adopted(w.ctx)
			require.Equal(w, []string{left}, names)
			return err
		},
		"release adopted": func(w *world, _ *Session) error { return w.sessions[1].ReleaseAdopted(w.ctx, left) },
		"unset limit":     func(w *world, s *Session) error { return NewSemaphore(s, "s", 2).SetLimit(w.ctx, 0) },
		"deadlocks":       func(w *world, s *Session) error { _, err := s.Deadlocks(w.ctx, "m"); return err },
		"try":             func(w *world, s *Session) error { _, err := NewMutex(s, "free").TryLock(w.ctx); return err },
		"lock all": func(w *world, s *Session) error {
			_, err := NewMultiMutex(s, []string{"x", "y"}).Lock(w.ctx)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				s := w.session("a")
				w.campaign(NewElection(s, "e"), "a")
				former := w.session("former")
				w.lock(NewMutex(former, left))
				w.sessions = w.sessions[:1]
				w.session("heir", WithLease(w.orphan(former)))
				permit := w.acquire(NewSemaphore(s, held, 2), 1)
				time.AfterFunc(4*time.Second, func() { _ = permit.Release(w.ctx) }) // Ask waits for that
				// The first of each kind, and of transactions the first of each text.
				var seen sync.Map
				w.Intercept(func(c simetcd.Call) simetcd.Action {
					first := c.Kind.String()
					if c.Kind == simetcd.Txn {
						first += c.Req.(fmt.Stringer).String()
					}
					_, again := seen.LoadOrStore(first, true)
					return simetcd.Action{DropRequest: c.Kind != simetcd.WatchCancel && !again}
				})
				began := time.Now()
				outer := w.ctx
				w.ctx = w.timeout(time.Minute)
				err := call(w, s)
				w.ctx = outer
				require.NoError(w, err)
				require.Less(w, time.Since(began), 6*time.Second)
				w.Intercept(nil)
				w.pass(3 * time.Second) // the permit is released
			})
		})
	}
}

// report R9: why etcd does not answer stands in the log after a second, and in the error.
func TestASessionThatWaitsForEtcdSaysWhy(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	closed := listen()
	closed.Close()
	hung, plain := listen(), listen()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	for what, of := range map[string]struct {
		cfg    clientv3.Config
		reason string
	}{
		"a closed port":     {clientv3.Config{Endpoints: []string{closed.Addr().String()}}, "connection refused"},
		"a name":            {clientv3.Config{Endpoints: []string{"etcd.invalid:2379"}}, "lookup etcd.invalid"},
		"TLS against plain": {clientv3.Config{Endpoints: []string{"https://" + plain.Addr().String()}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}}, "tls: first record does not look like a TLS handshake"},
		"etcd that hangs":   {clientv3.Config{Endpoints: []string{hung.Addr().String()}}, "no answer"},
	} {
		t.Run(what, func(t *testing.T) {
			core, logs := zapobserver.New(zapcore.WarnLevel)
			of.cfg.Logger = zap.NewNop()
			c, err := clientv3.New(of.cfg)
			require.NoError(t, err)
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			_, err = NewSession(ctx, c, WithLogger(zap.New(core)))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Contains(t, err.Error(), of.reason)
			lines := logs.FilterMessageSnippet("has not answered yet").All()
			require.Len(t, lines, 1, "a line, and one")
			assert.Contains(t, lines[0].ContextMap()["reason"], of.reason)
			assert.Equal(t, []any{of.cfg.Endpoints[0]}, lines[0].ContextMap()["endpoints"])
		})
	}
}

// report R9: an outage after the start is two lines in the log of an idle session: when a renewal is
// not answered, with the endpoints and the reason, and when etcd answers again.
func TestAnOutageIsLoggedOnceAndSoIsItsEnd(t *testing.T) {
	for what, of := range map[string]struct {
		begin, end func(w *world)
		reason     string
	}{
		"etcd is stopped": {func(w *world) { w.Stop() }, func(w *world) { w.Start() }, ""},
		"etcd hangs": {
			func(w *world) { w.every("a", simetcd.Action{DropRequest: true}, simetcd.LeaseKeepAlive) },
			func(w *world) { w.Intercept(nil) }, "a renewal is overdue",
		},
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				core, logs := zapobserver.New(zapcore.InfoLevel)
				w.session("a", WithTTL(30*time.Second), WithLogger(zap.New(core)))
				w.pass(time.Minute)
				require.Empty(w, logs.All(), "nothing is logged while all is well")
				of.begin(w)
				w.pass(16 * time.Second) // a third of the TTL until the next renewal, and a sixth without an answer
				lines := logs.All()
				require.Len(w, lines, 1)
				require.Contains(w, lines[0].Message, "etcd does not answer renewals")
				require.Contains(w, lines[0].ContextMap(), "endpoints")
				require.NotEmpty(w, lines[0].ContextMap()["error"])
				require.Contains(w, lines[0].ContextMap()["error"], of.reason)
				w.pass(3 * time.Second) // and renewals go on failing
				require.Len(w, logs.All(), 1)
				of.end(w)
				w.pass(6 * time.Second)
				lines = logs.All()
				require.Len(w, lines, 2)
				require.Contains(w, lines[1].Message, "etcd answers renewals of the lease again")
			})
		})
	}
}
