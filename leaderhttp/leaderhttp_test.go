package leaderhttp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// service is a process that campaigns in virtual time, and its handler.
type service struct {
	*testing.T
	client  *simetcd.Client
	session *etcdlock.Session
	monitor *etcdlock.Monitor
	http    http.Handler
}

func simulate(t *testing.T, test func(t *testing.T, srv *simetcd.Server)) {
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		test(t, srv)
	})
}

func newService(t *testing.T, srv *simetcd.Server, name string, opts ...etcdlock.SessionOption) *service {
	t.Helper()
	s := &service{T: t, client: srv.Client(name), monitor: new(etcdlock.Monitor)}
	s.http = Handler(s.monitor)
	var err error
	s.session, err = etcdlock.NewSession(t.Context(), s.client.Client, append(opts, etcdlock.WithTTL(10*time.Second))...)
	require.NoError(t, err)
	return s
}

// run campaigns until the function returned is called.
func (s *service) run(value string, fn func(context.Context, *etcdlock.Term) error, opts ...etcdlock.RunOption) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- etcdlock.NewElection(s.session, "e").Run(ctx, value, fn, append(opts, etcdlock.WithMonitor(s.monitor))...)
	}()
	time.Sleep(time.Second)
	return func() error { cancel(); return <-ended }
}

func untilToldTo(ctx context.Context, _ *etcdlock.Term) error { <-ctx.Done(); return nil }

func (s *service) get(path string) *httptest.ResponseRecorder {
	s.Helper()
	w := httptest.NewRecorder()
	s.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func (s *service) answers(path string, code int) string {
	s.Helper()
	w := s.get(path)
	require.Equal(s, code, w.Code, "%s: %s", path, w.Body)
	require.Equal(s, "no-store", w.Header().Get("Cache-Control"))
	return w.Body.String()
}

func (s *service) status() (st Status) {
	s.Helper()
	w := s.get("/status")
	require.Equal(s, 200, w.Code)
	require.NoError(s, json.Unmarshal(w.Body.Bytes(), &st))
	return st
}

func (s *service) close() { require.NoError(s, s.session.Close(context.Background())) }

func TestOnlyTheLeaderIsTheLeader(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a, b := newService(t, srv, "a"), newService(t, srv, "b")
		a.answers("/leader", 503)
		require.Equal(t, "ok\n", a.answers("/healthz", 200), "it has not begun, and restarting it would not help")
		require.Contains(t, a.answers("/readyz", 503), "does not campaign")

		stopA, stopB := a.run("host-a:80", untilToldTo), b.run("wörld\n", untilToldTo)
		require.Equal(t, "host-a:80\n", a.answers("/leader", 200))
		w := b.get("/leader")
		require.Equal(t, 503, w.Code)
		require.Equal(t, "host-a:80\n", w.Body.String())
		require.Equal(t, "host-a:80", w.Header().Get(LeaderHeader))
		require.Empty(t, w.Header().Get(TokenHeader))
		for _, s := range []*service{a, b} {
			s.answers("/healthz", 200)
			s.answers("/readyz", 200)
			s.answers("/nothing", 404)
		}
		post := httptest.NewRecorder()
		a.http.ServeHTTP(post, httptest.NewRequest(http.MethodPost, "/leader", nil))
		require.Equal(t, 405, post.Code)
		head := httptest.NewRecorder()
		a.http.ServeHTTP(head, httptest.NewRequest(http.MethodHead, "/leader", nil))
		require.Equal(t, 200, head.Code)

		require.ErrorIs(t, stopA(), context.Canceled)
		time.Sleep(time.Second)
		require.Equal(t, "\n", a.answers("/leader", 503), "it observes no more, and tells nothing that has passed")
		w = b.get("/leader")
		require.Equal(t, 200, w.Code)
		require.Equal(t, `"w\u00f6rld\n"`, w.Header().Get(LeaderHeader))
		require.NotEmpty(t, w.Header().Get(TokenHeader))
		require.ErrorIs(t, stopB(), context.Canceled)
		a.close()
		b.close()
	})
}

func TestALeaderThatIsCutOffIsNoneFromItsDeadlineOn(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Hour} { // report P1
		simulate(t, func(t *testing.T, srv *simetcd.Server) { cutOff(t, srv, delay) })
	}
}

func cutOff(t *testing.T, srv *simetcd.Server, delay time.Duration) {
	a := newService(t, srv, "a", etcdlock.WithLockDelay(delay))
	term := make(chan *etcdlock.Term, 1)
	let := make(chan struct{})
	stop := a.run("a", func(ctx context.Context, got *etcdlock.Term) error {
		term <- got
		<-let // deaf
		<-ctx.Done()
		return nil
	})
	got := <-term
	require.WithinDuration(t, time.Now().Add(10*time.Second), a.status().Term.Deadline, 4*time.Second)
	a.client.Cut()
	for got.Err() == nil {
		a.answers("/leader", 200)
		a.answers("/readyz", 200)
		time.Sleep(100 * time.Millisecond)
	}
	a.answers("/leader", 503)
	a.answers("/readyz", 503)
	a.answers("/healthz", 200)
	close(let)
	a.client.Heal()
	time.Sleep(10 * time.Second)
	<-term
	a.answers("/leader", 200)
	require.ErrorIs(t, stop(), context.Canceled)
	a.close()
}

func TestWhatIsUnhealthyOrStuckSaysSo(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a := newService(t, srv, "a")
		var sick atomic.Bool
		let := make(chan struct{})
		stop := a.run("a", func(context.Context, *etcdlock.Term) error {
			<-let // deaf
			return nil
		}, etcdlock.WithStopTimeout(5*time.Second), etcdlock.WithHealthCheck(etcdlock.HealthCheck{Interval: time.Second, Failures: 2, Check: func(context.Context) error {
			if sick.Load() {
				return errors.New("no disk")
			}
			return nil
		}}))
		a.answers("/readyz", 200)
		sick.Store(true)
		time.Sleep(3 * time.Second)
		require.Contains(t, a.answers("/readyz", 503), "no disk")
		a.answers("/leader", 503)
		a.answers("/healthz", 200)
		st := a.status()
		require.Equal(t, "stopping", st.Role)
		require.False(t, st.Ready)
		require.Contains(t, st.Unhealthy, "no disk")
		time.Sleep(5 * time.Second)
		require.Contains(t, a.answers("/healthz", 503), "not stopped in time")
		require.True(t, a.status().Stuck)
		close(let)
		time.Sleep(time.Second)
		a.answers("/healthz", 200)
		require.ErrorIs(t, stop(), context.Canceled)
		a.close()
	})
}

func TestARunThatFailedIsNotHealthy(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a := newService(t, srv, "a")
		stop := a.run("a", func(context.Context, *etcdlock.Term) error { return errors.New("no licence") })
		require.Error(t, stop())
		require.Contains(t, a.answers("/healthz", 503), "no licence")
		require.Contains(t, a.answers("/readyz", 503), "no licence")
		require.Contains(t, a.status().Error, "no licence")
		a.close()
	})
}

func TestTheStatusTellsAll(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a, b := newService(t, srv, "a"), newService(t, srv, "b")
		st := a.status()
		require.NotEmpty(t, st.CandidatesError)
		require.False(t, st.Running)
		stopA, stopB := a.run("host-a", untilToldTo), b.run("host-b", untilToldTo)
		time.Sleep(time.Minute)

		st = a.status()
		require.True(t, st.Running && st.Leading && st.Ready)
		require.Equal(t, []string{"e", "leading", "connected"}, []string{st.Election, st.Role, st.Session})
		require.InDelta(t, 61, st.Term.Age, 1.1)
		require.InDelta(t, 61, st.Leader.Age, 1.1)
		require.Positive(t, st.Term.Token)
		require.Equal(t, st.Term.CreateRevision, st.Leader.CreateRevision)
		require.True(t, st.Term.Deadline.After(time.Now()))
		require.Equal(t, "host-a", st.Leader.Value)
		require.Len(t, st.Candidates, 2)
		require.Equal(t, st.Leader.Candidate, st.Candidates[0])
		require.Equal(t, "host-b", st.Candidates[1].Value)

		st = b.status()
		require.False(t, st.Leading)
		require.Nil(t, st.Term)
		require.Equal(t, "candidate", st.Role)
		require.Equal(t, "host-a", st.Leader.Value)

		b.client.ResetCounts()
		for range 10 {
			b.status()
			b.answers("/leader", 503)
			b.answers("/readyz", 200)
		}
		require.LessOrEqual(t, b.client.Count(simetcd.Range)+b.client.Count(simetcd.TxnReadOnly), 1, "etcd is asked once a second at most")
		b.client.Cut()
		time.Sleep(time.Second)
		began := time.Now()
		require.NotEmpty(t, b.status().CandidatesError)
		require.LessOrEqual(t, time.Since(began), statusTimeout)
		b.client.Heal()
		require.ErrorIs(t, stopA(), context.Canceled)
		require.ErrorIs(t, stopB(), context.Canceled)
		a.close()
		b.close()
	})
}

// report E10: the default check of HAProxy is OPTIONS.
func TestOptionsIsAnsweredAsHead(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a, b := newService(t, srv, "a"), newService(t, srv, "b")
		stopA, stopB := a.run("host-a:80", untilToldTo), b.run("host-b:80", untilToldTo)
		for _, s := range []*service{a, b} {
			for _, path := range []string{"/leader", "/healthz", "/readyz", "/status", "/nothing"} {
				options := s.ask(t.Context(), http.MethodOptions, path)
				head := s.ask(t.Context(), http.MethodHead, path)
				require.Equal(t, head.Code, options.Code, path)
				require.Equal(t, head.Header(), options.Header(), path)
				require.Empty(t, options.Body, path)
			}
		}
		require.Equal(t, 200, a.ask(t.Context(), http.MethodOptions, "/leader").Code)
		require.Equal(t, 503, b.ask(t.Context(), http.MethodOptions, "/leader").Code)
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodTrace} {
			require.Equal(t, 405, a.ask(t.Context(), method, "/leader").Code, method)
		}
		require.ErrorIs(t, stopA(), context.Canceled)
		require.ErrorIs(t, stopB(), context.Canceled)
		a.close()
		b.close()
	})
}

func (s *service) ask(ctx context.Context, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.http.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, nil))
	return w
}

// report E11: neither concurrent clients nor clients shortly afterwards.
func TestAClientThatDisconnectsSpoilsTheAnswerForNobody(t *testing.T) {
	simulate(t, func(t *testing.T, srv *simetcd.Server) {
		a := newService(t, srv, "a")
		stop := a.run("host-a", untilToldTo)
		srv.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Kind == simetcd.Range || c.Kind == simetcd.TxnReadOnly {
				return simetcd.Action{DelayReply: 500 * time.Millisecond}
			}
			return simetcd.Action{}
		})
		time.Sleep(time.Second)
		impatient, disconnect := context.WithCancel(t.Context())
		answers := make(chan Status, 2)
		ask := func(ctx context.Context) {
			var st Status
			_ = json.Unmarshal(a.ask(ctx, http.MethodGet, "/status").Body.Bytes(), &st)
			answers <- st
		}
		go ask(impatient)
		synctest.Wait()
		go ask(t.Context())
		time.Sleep(100 * time.Millisecond)
		disconnect()
		require.Contains(t, (<-answers).CandidatesError, "canceled", "its own wait is over at once")
		st := <-answers
		require.Empty(t, st.CandidatesError)
		require.Len(t, st.Candidates, 1)
		require.Empty(t, a.status().CandidatesError, "nor for a second from then on")

		// Etcd is silent: each waits for a second, and what goes on behind it ends, too.
		time.Sleep(time.Second)
		a.client.Cut()
		impatient, disconnect = context.WithCancel(t.Context())
		disconnect()
		began := time.Now()
		go ask(impatient)
		require.Contains(t, (<-answers).CandidatesError, "canceled")
		require.Zero(t, time.Since(began))
		require.Contains(t, a.status().CandidatesError, "deadline")
		require.Equal(t, statusTimeout, time.Since(began))
		a.client.Heal()
		require.ErrorIs(t, stop(), context.Canceled)
		a.close()
	})
}
