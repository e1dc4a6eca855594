package mixed

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// contender is one user of a lock or of an election, by whatever library: its session.
type contender interface {
	// acquire waits in line.
	acquire(ctx context.Context) (*hold, error)
	// die ends it without a release, as a crash does; its lease is left to expire. The
	// next acquisition is by another session.
	die()
}

// hold is one acquisition, by any library.
type hold struct {
	key   string
	lease clientv3.LeaseID

	// token is what its user would take for a fencing token; here always the revision in
	// the header of the answer by which it was acquired.
	token int64
	// order is what a user of an election would take for one: the revision of its key's
	// creation. 0 where it is not told.
	order int64

	ended    <-chan struct{}  // closed when its user is told that it is over; nil: never
	deadline func() time.Time // ours
	release  func(ctx context.Context) error
	proclaim func(ctx context.Context, value string) error // of an election
}

// kind makes contenders of one library.
type kind struct {
	name string
	slow bool // each acquisition is a process
	// orderOnly says that the header's revision is that of its key's creation, not of its
	// turn, so that only its order can be compared with others.
	orderOnly bool

	lock func(w *world, name string) contender
	// elect has the value that is proposed.
	elect func(w *world, name, value string) contender
}

// foreign are all other libraries and programs.
var foreign = []kind{
	{name: "concurrency", orderOnly: true, lock: newTheirMutex, elect: newTheirElection},
	{name: "etcdctl", slow: true, lock: newCtlLock, elect: newCtlElect},
	{name: "v3lock/v3election", orderOnly: true, lock: newServiceLock, elect: newServiceElection},
	{name: "gateway", orderOnly: true, lock: newGatewayLock, elect: newGatewayElection},
}

// ours is a session of etcdlock.
type ours struct {
	w       *world
	session *etcdlock.Session
	enter   func(ctx context.Context, s *etcdlock.Session, try bool) (*hold, error)
}

var errNotTaken = errors.New("not tried")

func newOurMutex(w *world, c *clientv3.Client, name string, options ...etcdlock.MutexOption) *ours {
	return &ours{
		w:       w,
		session: w.session(c),
		enter: func(ctx context.Context, s *etcdlock.Session, try bool) (*hold, error) {
			m := etcdlock.NewMutex(s, name, options...)
			lock := m.Lock
			if try {
				lock = m.TryLock
			}
			l, err := lock(ctx)
			if err != nil {
				return nil, err
			}
			return ourHold(l, l.Unlock), nil
		},
	}
}

func newOurElection(w *world, c *clientv3.Client, name, value string) *ours {
	return &ours{
		w:       w,
		session: w.session(c),
		enter: func(ctx context.Context, s *etcdlock.Session, try bool) (*hold, error) {
			if try {
				return nil, errNotTaken
			}
			term, err := etcdlock.NewElection(s, name).Campaign(ctx, value)
			if err != nil {
				return nil, err
			}
			h := ourHold(term, term.Resign)
			h.proclaim = term.Proclaim
			return h, nil
		},
	}
}

// handle is a hold of one name.
type handle interface {
	etcdlock.Held
	Key() string
	CreateRevision() int64
}

func ourHold(h handle, release func(context.Context) error) *hold {
	lease, err := leaseOf(h.Key())
	if err != nil {
		panic(err) // it is our own key
	}
	return &hold{
		key: h.Key(), lease: lease, token: h.Token(), order: h.CreateRevision(), ended: h.Done(),
		deadline: h.Deadline, release: release,
	}
}

func (o *ours) acquire(ctx context.Context) (*hold, error) { return o.enter(ctx, o.session, false) }
func (o *ours) try(ctx context.Context) (*hold, error)     { return o.enter(ctx, o.session, true) }

func (o *ours) die() {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if _, err := o.session.Orphan(ctx); err != nil && !errors.Is(err, etcdlock.ErrLost) {
		o.w.t.Errorf("orphan: %v", err)
	}
	o.session = o.w.session(o.session.Client())
}

// theirs is a session of etcd's own package. It is replaced after every failure, because the failed one
// may have left its key behind (trap A4).
type theirs struct {
	client  *clientv3.Client
	session *concurrency.Session
	enter   func(ctx context.Context, s *concurrency.Session) (*hold, error)
}

func newTheirs(w *world, enter func(ctx context.Context, s *concurrency.Session) (*hold, error)) contender {
	c := &theirs{client: w.client(), enter: enter}
	w.t.Cleanup(c.close)
	return c
}

func newTheirMutex(w *world, name string) contender {
	return newTheirs(w, func(ctx context.Context, s *concurrency.Session) (*hold, error) {
		m := concurrency.NewMutex(s, name)
		if err := m.Lock(ctx); err != nil {
			return nil, err
		}
		return &hold{
			key: m.Key(), lease: s.Lease(), token: m.Header().Revision,
			release: m.Unlock,
		}, nil
	})
}

func newTheirElection(w *world, name, value string) contender {
	return newTheirs(w, func(ctx context.Context, s *concurrency.Session) (*hold, error) {
		e := concurrency.NewElection(s, name)
		if err := e.Campaign(ctx, value); err != nil {
			return nil, err
		}
		return &hold{
			key: e.Key(), lease: s.Lease(), token: e.Header().Revision, order: e.Rev(),
			release: e.Resign, proclaim: e.Proclaim,
		}, nil
	})
}

func (c *theirs) acquire(ctx context.Context) (*hold, error) {
	if c.session == nil {
		s, err := concurrency.NewSession(c.client, concurrency.WithTTL(int(ttl/time.Second)))
		if err != nil {
			return nil, err
		}
		c.session = s
	}
	h, err := c.enter(ctx, c.session)
	if err != nil {
		c.close()
	}
	return h, err
}

func (c *theirs) die() {
	c.session.Orphan()
	c.session = nil
}

func (c *theirs) close() {
	if c.session != nil {
		_ = c.session.Close() // its lease may be gone
		c.session = nil
	}
}

// must acquires.
func (w *world) must(c contender) *hold {
	w.t.Helper()
	h, err := c.acquire(w.ctx())
	require.NoError(w.t, err)
	return h
}

// outcome is what an acquisition in the background came to.
type outcome struct {
	*hold
	err error
	at  time.Time
}

// start acquires in the background.
func start(ctx context.Context, c contender) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		h, err := c.acquire(ctx)
		out <- outcome{h, err, time.Now()}
	}()
	return out
}

func (w *world) granted(out <-chan outcome) *hold {
	w.t.Helper()
	o := receive(w.t, out, "a grant")
	require.NoError(w.t, o.err)
	return o.hold
}

// waits fails the test if there is an outcome within the time.
func (w *world) waits(out <-chan outcome, during time.Duration) {
	w.t.Helper()
	select {
	case o := <-out:
		require.FailNow(w.t, "did not wait", "error: %v", o.err)
	case <-time.After(during):
	}
}

func (w *world) release(h *hold) {
	w.t.Helper()
	require.NoError(w.t, h.release(w.ctx()))
}

// inLine is waitForKeys for other goroutines than the test's own.
func (w *world) inLine(name string, n int) bool {
	return assert.Eventually(w.t, func() bool {
		resp, err := w.admin.Get(w.ctx(), name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == int64(n)
	}, 10*time.Second, 5*time.Millisecond, "not %d keys under %q", n, name)
}

// revokeSecond is an operator that revokes the lease of the first waiter.
func (w *world) revokeSecond(name string) {
	resp, err := w.admin.Get(w.ctx(), name+"/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if assert.NoError(w.t, err) && assert.Greater(w.t, len(resp.Kvs), 1) {
		_, err = w.admin.Revoke(w.ctx(), clientv3.LeaseID(resp.Kvs[1].Lease))
		assert.NoError(w.t, err)
	}
}
