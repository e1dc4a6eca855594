package leaderloop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/states"
)

func TestMain(m *testing.M) {
	states.Refused = func(err error) { panic(err) }
	os.Exit(m.Run())
}

// The lease of every fake term.
const (
	ttl    = 60 * time.Second
	margin = 8 * time.Second // an eighth of it is a second
)

var errWork = errors.New("the work failed")

// stage is a Run under way with a fake candidate. It writes down what happens and when.
type stage struct {
	*testing.T
	cfg  Config
	logs *logged.ObservedLogs

	ctx    context.Context // of Run
	cancel context.CancelCauseFunc
	began  time.Time
	terms  chan *fakeTerm // those that were granted

	over      chan struct{} // closed when Run has ended; the fields below are set before
	err       error         // that Run returned
	recovered any           // from a panic of Run
	returned  bool

	mu     sync.Mutex // guards the fields below
	roles  []string   // told to the callback
	deeds  []string   // of the work, on the term and on the candidate
	refuse []error    // what the next campaigns fail with
	queued bool       // campaigns wait until their context ends
	status Status
}

// play runs a test in virtual time. setup changes the configuration of its loop.
func play(t *testing.T, setup func(s *stage), script func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := logged.New(zapcore.InfoLevel)
		s := &stage{T: t, logs: logs, began: time.Now(), terms: make(chan *fakeTerm, 1000), over: make(chan struct{})}
		s.ctx, s.cancel = context.WithCancelCause(t.Context())
		s.cfg = Config{
			Name: "e", Log: zap.New(core),
			Ended: func() error { return context.Cause(s.ctx) },
			Open:  func(context.Context) (Candidate, error) { return s, nil },
			Work:  func(ctx context.Context, _ Term) error { <-ctx.Done(); return nil },
			OnRole: func(r Role) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.roles = append(s.roles, fmt.Sprintf("%v %v", s.now(), r))
			},
			Monitor: func(st Status) { s.mu.Lock(); defer s.mu.Unlock(); s.status = st },
		}
		setup(s)
		go func() {
			defer close(s.over)
			defer func() { s.recovered = recover() }()
			s.err = Run(s.ctx, s.cfg)
			s.returned = true
		}()
		defer func() { // also when the script has failed
			s.cancel(nil)
			<-s.over
		}()
		script(s)
	})
}

// now is the time since the begin, without the shortest of the pauses between two terms.
func (s *stage) now() time.Duration { return time.Since(s.began).Round(100 * time.Millisecond) }

// note writes down a deed.
func (s *stage) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deeds = append(s.deeds, fmt.Sprintf("%v %s", s.now(), fmt.Sprintf(format, args...)))
}

// require compares all that was written down.
func (s *stage) require(roles, deeds []string) {
	s.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(s, roles, s.roles)
	require.Equal(s, deeds, s.deeds)
}

// noted is what was written down of deeds.
func (s *stage) noted() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deeds)
}

// at waits until a time since the begin.
func (s *stage) at(d time.Duration) {
	time.Sleep(d - time.Since(s.began))
	synctest.Wait()
}

func (s *stage) seen() Status {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// goesOn tells whether Run has not ended.
func (s *stage) goesOn() bool {
	synctest.Wait()
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

// The stage is the candidate of its loop.

func (s *stage) Campaign(ctx context.Context) (Term, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.queued {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refuse) > 0 {
		err := s.refuse[0]
		s.refuse = s.refuse[1:]
		return nil, err
	}
	t := &fakeTerm{stage: s, margin: margin, preempt: make(chan string, 1), lookout: make(chan error, 9), asked: make(chan string, 9)}
	t.ctx, t.end = context.WithCancelCause(context.Background())
	s.terms <- t
	return t, nil
}

func (s *stage) Lease() Lease { return Lease{ID: 7, TTL: ttl, Margin: margin} }

func (s *stage) Close() { s.note("close") }

// fakeTerm is a term with a lease that is always renewed until it is cut off.
type fakeTerm struct {
	stage    *stage
	progress Progress
	ctx      context.Context // ends with the term
	end      context.CancelCauseFunc
	preempt  chan string // the challenger that takes over
	lookout  chan error  // why AwaitPreemption or Honour has ended
	asked    chan string // the candidates for which the term is asked to resign

	resigning time.Duration // how long a resignation takes
	margin    time.Duration // from the end of the term until others can lead

	mu     sync.Mutex
	over   time.Time     // when the term ends or has ended; zero while the lease is renewed
	asleep time.Duration // for how long the machine has slept
}

// cut lets no renewal through any more.
func (t *fakeTerm) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over.IsZero() {
		t.over = time.Now().Add(ttl - margin)
		time.AfterFunc(ttl-margin, func() { t.end(lockerr.Lost(lockerr.ErrExpired)) })
	}
}

// lose ends the term at once.
func (t *fakeTerm) lose(why error) {
	t.mu.Lock()
	t.over = time.Now()
	t.mu.Unlock()
	t.end(why)
}

func (t *fakeTerm) Token() int64          { return 42 }
func (t *fakeTerm) Err() error            { return context.Cause(t.ctx) }
func (t *fakeTerm) Done() <-chan struct{} { return t.ctx.Done() }
func (t *fakeTerm) Progress() *Progress   { return &t.progress }
func (t *fakeTerm) TTL() time.Duration    { return ttl }

func (t *fakeTerm) TimerLimit() time.Duration { return 500 * time.Millisecond }

func (t *fakeTerm) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

func (t *fakeTerm) AwaitPreemption(ctx context.Context) (string, error) {
	select {
	case challenger := <-t.preempt:
		return challenger, nil
	case err := <-t.lookout:
		return "", err
	case <-ctx.Done():
		time.Sleep(100 * time.Millisecond) // it is waited for
		t.stage.note("looks out no more")
		return "", context.Cause(ctx)
	}
}

func (t *fakeTerm) Resign(ctx context.Context) error {
	if err := t.Err(); err != nil {
		return err
	}
	t.stage.note("resign")
	t.end(lockerr.ErrReleased)
	select {
	case <-time.After(t.resigning):
		return nil
	case <-ctx.Done():
		return lockerr.ErrUnconfirmed
	}
}

func (t *fakeTerm) ResignTo(ctx context.Context, candidate string) error {
	t.stage.note("transfer to %s", candidate)
	return t.Resign(ctx)
}

func (t *fakeTerm) Honour(ctx context.Context, tell func(to, by string)) error {
	for {
		select {
		case to := <-t.asked:
			tell(to, "by an operator")
		case err := <-t.lookout:
			return err
		case <-ctx.Done():
			t.stage.note("listens no more")
			return context.Cause(ctx)
		}
	}
}

func (t *fakeTerm) Abandon() {
	if t.Err() == nil {
		t.stage.note("abandon")
		t.end(lockerr.ErrReleased)
	}
}

func (t *fakeTerm) TimeLeft() TimeLeft {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := ttl - margin
	if !t.over.IsZero() {
		left = time.Until(t.over)
	}
	return TimeLeft{Unbounded: errors.Is(t.Err(), lockerr.ErrReleased), ToEnd: left - t.asleep, Margin: t.margin}
}

func (t *fakeTerm) StopRenewing(why error) {
	t.stage.note("renewed no more: %v", why)
	t.cut()
}

func (t *fakeTerm) EndLease() { t.stage.note("end lease") }
