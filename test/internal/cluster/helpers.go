package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func Hex(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// MomentOf tells when a channel was closed.
func MomentOf(done <-chan struct{}) <-chan time.Time {
	at := make(chan time.Time, 1)
	go func() {
		<-done
		at <- time.Now()
	}()
	return at
}

// Receive waits for a value, for a limited time.
func Receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(Long):
		require.FailNow(t, "nothing came", what)
		panic("unreachable")
	}
}

// Outcome is what Lock or Campaign returned in a goroutine, and when.
type Outcome[H any] struct {
	Handle H
	Err    error
	At     time.Time
}

func InBackground[H any](call func() (H, error)) <-chan Outcome[H] {
	out := make(chan Outcome[H], 1)
	go func() {
		h, err := call()
		out <- Outcome[H]{h, err, time.Now()}
	}()
	return out
}

func LockInBackground(ctx context.Context, m *etcdlock.Mutex) <-chan Outcome[*etcdlock.Lock] {
	return InBackground(func() (*etcdlock.Lock, error) { return m.Lock(ctx) })
}

func CampaignInBackground(ctx context.Context, e *etcdlock.Election, value string) <-chan Outcome[*etcdlock.Term] {
	return InBackground(func() (*etcdlock.Term, error) { return e.Campaign(ctx, value) })
}

// Waiting returns a context that ends with ctx, and a channel that is closed when a call with that
// context waits behind another goroutine of its session: such a wait is not to be seen in etcd. The
// call joins the line before it asks when its context ends.
func Waiting(ctx context.Context) (context.Context, <-chan struct{}) {
	w := &waiting{Context: ctx, waits: make(chan struct{})}
	return w, w.waits
}

type waiting struct {
	context.Context
	once  sync.Once
	waits chan struct{}
}

func (w *waiting) Done() <-chan struct{} {
	w.once.Do(func() { close(w.waits) })
	return w.Context.Done()
}

// Granted waits for the handle.
func Granted[H any](t *testing.T, out <-chan Outcome[H]) Outcome[H] {
	t.Helper()
	o := Receive(t, out, "a grant")
	require.NoError(t, o.Err)
	return o
}

// LockAfter is LockInBackground that fails if, when the lock is granted, the hold before still stands
// by its own account. That looks at the clock, and depends on no timer and no goroutine.
func LockAfter(ctx context.Context, m *etcdlock.Mutex, before etcdlock.Held) <-chan Outcome[*etcdlock.Lock] {
	return InBackground(func() (*etcdlock.Lock, error) {
		l, err := m.Lock(ctx)
		if err == nil && before.Err() == nil {
			return l, errBoth
		}
		return l, err
	})
}

// CampaignAfter is CampaignInBackground that fails as LockAfter does.
func CampaignAfter(ctx context.Context, e *etcdlock.Election, value string, before etcdlock.Held) <-chan Outcome[*etcdlock.Term] {
	return InBackground(func() (*etcdlock.Term, error) {
		term, err := e.Campaign(ctx, value)
		if err == nil && before.Err() == nil {
			return term, errBoth
		}
		return term, err
	})
}

var errBoth = errors.New("it was granted while the hold before stood")

// AssertEndedAt fails if a hold was over before its deadline, or was told so much later.
func AssertEndedAt(t *testing.T, deadline, end time.Time) {
	t.Helper()
	const precise, late = 10 * time.Millisecond, 5 * time.Second // it is told by a timer and a goroutine
	assert.WithinRange(t, end, deadline.Add(-precise), deadline.Add(late), "told at its deadline")
}

// StillWaiting fails if the call returned within the time.
func StillWaiting[H any](t *testing.T, out <-chan Outcome[H], during time.Duration) {
	t.Helper()
	select {
	case o := <-out:
		require.FailNow(t, "did not wait", "error: %v", o.Err)
	case <-time.After(during):
	}
}

// NothingComes fails if there is a value within the time.
func NothingComes[T any](t *testing.T, from <-chan T, during time.Duration) {
	t.Helper()
	select {
	case v := <-from:
		require.FailNow(t, "something came", "%v", v)
	case <-time.After(during):
	}
}

// History is the holds with their times and tokens.
type History struct {
	mu    sync.Mutex
	holds []*span
}

type span struct {
	err      func() error // why it is over
	session  any          // holds of one session may share a token
	token    int64
	from, to time.Time
}

// Begin notes a hold. err is the error by which the hold itself says that it is over. The returned
// function is called right before its release. A hold that gave no error when the next one began has overlapped with it: a
// hold looks at the clock itself, so that a machine under load makes no overlap of a late timer.
func (h *History) Begin(err func() error, session any, token int64) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &span{session: session, token: token, from: time.Now(), err: err}
	for _, o := range h.holds {
		if o.to.IsZero() && o.err() != nil {
			o.to = s.from
		}
	}
	h.holds = append(h.holds, s)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if s.to.IsZero() {
			s.to = time.Now()
		}
	}
}

// Len is how many holds there were.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.holds)
}

// AssertExclusive fails if two holds overlap, or a token does not grow.
func (h *History) AssertExclusive(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.holds, func(a, b *span) int { return a.from.Compare(b.from) })
	for i, next := range h.holds[min(1, len(h.holds)):] {
		before := h.holds[i]
		if !assert.False(t, before.to.IsZero(), "hold %d never ended", i) {
			continue
		}
		assert.LessOrEqual(t, before.to.Sub(next.from), time.Duration(0), "holds %d and %d overlap", i, i+1)
	}
	h.tokensGrow(t)
}

// AssertTokensGrow is what remains to be asserted where an administrator ended
// holds: their holders are told after the fact.
func (h *History) AssertTokensGrow(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokensGrow(t)
}

func (h *History) tokensGrow(t *testing.T) {
	t.Helper()
	require.NotEmpty(t, h.holds)
	slices.SortFunc(h.holds, func(a, b *span) int { return a.from.Compare(b.from) })
	for i, next := range h.holds[1:] {
		before := h.holds[i]
		if before.session == next.session {
			assert.LessOrEqual(t, before.token, next.token, "token of hold %d", i+1)
		} else {
			assert.Less(t, before.token, next.token, "token of hold %d", i+1)
		}
	}
}

// Raise adds one to a counter in etcd by reading and writing, guarded by nothing:
// without exclusion updates get lost.
func Raise(ctx context.Context, c *clientv3.Client, key string) error {
	resp, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	n := 0
	if len(resp.Kvs) > 0 {
		if n, err = strconv.Atoi(string(resp.Kvs[0].Value)); err != nil {
			return fmt.Errorf("counter: %w", err)
		}
	}
	_, err = c.Put(ctx, key, strconv.Itoa(n+1))
	return err
}

// All runs workers and waits for them; their errors fail the test.
func All(t *testing.T, workers ...func() error) {
	t.Helper()
	errs := make(chan error, len(workers))
	for _, w := range workers {
		go func() { errs <- w() }()
	}
	for range workers {
		require.NoError(t, Receive(t, errs, "a worker's end"))
	}
}

// Release unlocks within the test's time.
func Release(t *testing.T, l *etcdlock.Lock) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Long)
	defer cancel()
	require.NoError(t, l.Unlock(ctx))
}

// AssertLost checks an error of something lost against its reason.
func AssertLost(t *testing.T, err, reason error) {
	t.Helper()
	require.Error(t, err)
	assert.ErrorIs(t, err, etcdlock.ErrLost)
	assert.ErrorIs(t, err, reason)
}
