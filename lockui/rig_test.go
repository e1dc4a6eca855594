package lockui_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/lockui"
)

// rig is a page on an etcd in memory, in virtual time.
type rig struct {
	*testing.T
	etcd *etcdlocktest.Etcd
	ui   *lockui.Handler
	self *etcdlocktest.Process // of the page
	log  *lines
	ends []func()
}

// end has something done when the test returns, in the same bubble.
func (r *rig) end(f func()) { r.ends = append(r.ends, f) }

// run tests a page with options.
func run(t *testing.T, test func(r *rig), opts ...lockui.Option) {
	t.Helper()
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		r := &rig{T: t, etcd: etcd, self: etcd.Process("ui"), log: &lines{}}
		client := r.self.Client()
		client.Maintenance = noMaintenance{}
		var err error
		r.ui, err = lockui.New(client, append([]lockui.Option{lockui.WithSlog(slog.New(slog.NewTextHandler(r.log, nil)))}, opts...)...)
		require.NoError(t, err)
		defer r.ui.Close()
		r.settle()
		defer func() {
			for _, end := range slices.Backward(r.ends) {
				end()
			}
		}()
		test(r)
	})
}

// noMaintenance is for the doctor, because the etcd in memory has no members.
type noMaintenance struct{ clientv3.Maintenance }

var errNoMembers = errors.New("no members")

func (noMaintenance) Status(context.Context, string) (*clientv3.StatusResponse, error) {
	return nil, errNoMembers
}
func (noMaintenance) AlarmList(context.Context) (*clientv3.AlarmResponse, error) {
	return &clientv3.AlarmResponse{}, nil
}

// settle lets all events arrive.
func (r *rig) settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// hold acquires a lock in a process of its own.
func (r *rig) hold(process, name string) *etcdlock.Lock {
	r.Helper()
	lock := r.lock(r.session(process), name)
	r.settle()
	return lock
}

func (r *rig) lock(s *etcdlock.Session, name string) *etcdlock.Lock {
	r.Helper()
	lock, err := etcdlock.NewMutex(s, name).Lock(r.Context())
	require.NoError(r, err)
	r.end(func() { _ = lock.Unlock(r.Context()) })
	return lock
}

func (r *rig) session(process string) *etcdlock.Session {
	return r.etcd.Process(process).Session(etcdlock.WithOwner(process))
}

// wait lets a process wait for a name until the test ends, and returns a channel with its lock.
func (r *rig) wait(process, name string) <-chan *etcdlock.Lock {
	s, got := r.session(process), make(chan *etcdlock.Lock, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var (
		done sync.WaitGroup
		lock *etcdlock.Lock
	)
	done.Go(func() {
		var err error
		if lock, err = etcdlock.NewMutex(s, name).Lock(ctx); err == nil {
			got <- lock
		}
	})
	r.end(func() {
		cancel()
		if done.Wait(); lock != nil {
			_ = lock.Unlock(r.Context())
		}
	})
	r.settle()
	return got
}

// request is a request from the same machine, with changes.
func request(method, target string, changes ...func(*http.Request)) *http.Request {
	q := httptest.NewRequest(method, target, nil)
	q.Host, q.RemoteAddr = "localhost:9478", "127.0.0.1:50000"
	for _, change := range changes {
		change(q)
	}
	return q
}

func (r *rig) do(q *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.ui.ServeHTTP(w, q)
	return w
}

// get returns a page, which has to be there.
func (r *rig) get(target string) string {
	r.Helper()
	w := r.do(request(http.MethodGet, target))
	require.Equal(r, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	return w.Body.String()
}

func (r *rig) status(method, target string) int { return r.do(request(method, target)).Code }

// post sends the form of a page of confirmation.
func (r *rig) post(page, reason string) *httptest.ResponseRecorder {
	r.Helper()
	_, form, ok := strings.Cut(r.get(page), `<form class="confirm" action="`)
	require.True(r, ok, "%s has no form", page)
	action, _, _ := strings.Cut(form, `"`)
	return r.send(action, reason)
}

func (r *rig) send(action, reason string) *httptest.ResponseRecorder {
	return r.do(request(http.MethodPost, "/"+strings.ReplaceAll(action, "&amp;", "&"), withReason(reason)))
}

func withReason(reason string) func(*http.Request) {
	return func(q *http.Request) {
		q.Body = io.NopCloser(strings.NewReader("reason=" + reason))
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
}

// form is the address of the form of a page of confirmation.
func (r *rig) form(page string) string {
	r.Helper()
	_, form, ok := strings.Cut(r.get(page), `<form class="confirm" action="`)
	require.True(r, ok, "%s has no form", page)
	action, _, _ := strings.Cut(form, `"`)
	return action
}

// lines is a log, and the body of a stream.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// viewer is a viewer of a stream.
type viewer struct {
	lines
	header http.Header
	code   int
	stuck  chan struct{} // nil: the viewer reads
	ended  chan struct{}
	cancel context.CancelFunc
}

func (v *viewer) Header() http.Header  { return v.header }
func (v *viewer) WriteHeader(code int) { v.code = code }
func (v *viewer) Flush()               {}

// Write blocks while the viewer does not read, as the connection of a slow viewer does.
func (v *viewer) Write(b []byte) (int, error) {
	if v.stuck != nil {
		<-v.stuck
		return 0, errors.New("deadline exceeded")
	}
	return v.lines.Write(b)
}

// messages are the events that have arrived.
func (v *viewer) messages() int { return strings.Count(v.String(), "\ndata: ") }

// view follows a page until the test ends.
func (r *rig) view(target string, changes ...func(*http.Request)) *viewer {
	v := &viewer{header: make(http.Header), ended: make(chan struct{})}
	return r.viewAs(v, target, changes...)
}

func (r *rig) viewAs(v *viewer, target string, changes ...func(*http.Request)) *viewer {
	ctx, cancel := context.WithCancel(r.Context())
	v.cancel = cancel
	q := request(http.MethodGet, target, changes...).WithContext(ctx)
	q.Header.Set("Accept", "text/event-stream")
	go func() {
		defer close(v.ended)
		r.ui.ServeHTTP(v, q)
	}()
	r.end(func() { cancel(); <-v.ended })
	r.settle()
	return v
}

// verified is the TLS state of a client whose certificate the server has verified.
func verified(name string) *tls.ConnectionState {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
	return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert}}}
}

// rangeOf are the options of a read of a queue.
func rangeOf(string) []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}
}

func leaseOf(kv *mvccpb.KeyValue) []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithLease(clientv3.LeaseID(kv.Lease))}
}

func escape(name string) string { return url.QueryEscape(name) }

// permit acquires a permit of a semaphore, and returns what releases it.
func (r *rig) permit(name string) (release func()) {
	r.Helper()
	p, err := etcdlock.NewSemaphore(r.session("gamma"), name, 5).Acquire(r.Context(), 1)
	require.NoError(r, err)
	r.settle()
	return func() { _ = p.Release(r.Context()) }
}

// candidate campaigns until the test ends, and works until its context ends.
func (r *rig) candidate(process, name string, opts ...etcdlock.RunOption) {
	s := r.session(process)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		_ = etcdlock.NewElection(s, name).Run(ctx, process, func(ctx context.Context, _ *etcdlock.Term) error {
			<-ctx.Done()
			return nil
		}, opts...)
	})
	r.end(func() { cancel(); done.Wait() })
	r.settle()
}
