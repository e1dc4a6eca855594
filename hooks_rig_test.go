package etcdlock

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/etcdlock/etcdlock/internal/wire"
	"github.com/stretchr/testify/require"
)

// traceLog has a trace with all hooks, and notes each event as a line.
type traceLog struct {
	session atomic.Pointer[Session] // each hook calls it, which hangs if a mutex is held; nil: none is called
	heard   func()                  // called by each hook, and the lines are dropped; nil: they are kept

	mu     sync.Mutex
	lines  []string
	open   map[any]int // by call: grants without an end
	broken []string    // what no trace may tell
}

type callKey struct{}

// ask calls what takes the mutexes of the engine.
func (r *traceLog) ask() {
	if s := r.session.Load(); s != nil {
		s.Stats()
		s.Lease()
	}
}

func (r *traceLog) note(format string, args ...any) {
	r.ask()
	line := fmt.Sprintf(format, args...)
	if r.heard != nil {
		r.heard()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

// began counts a grant of the call, and end its end. A call has at most one of each.
func (r *traceLog) began(ctx context.Context, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = make(map[any]int)
	}
	call := ctx.Value(callKey{})
	r.open[call] += by
	if n := r.open[call]; call == nil || n < 0 || n > 1 {
		r.broken = append(r.broken, fmt.Sprintf("call %v has %d holds", call, n))
	}
}

// wrongly notes what no trace may tell.
func (r *traceLog) wrongly(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

// unended is how many holds have no end.
func (r *traceLog) unended() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, holds := range r.open {
		n += holds
	}
	return n
}

// wrong tells, when all sessions are closed, what no trace may tell.
func (r *traceLog) wrong() []string {
	unended := r.unended()
	r.mu.Lock()
	defer r.mu.Unlock()
	if unended > 0 {
		r.broken = append(r.broken, fmt.Sprintf("%d holds have not ended", unended))
	}
	return r.broken
}

// take returns the lines since the last call.
func (r *traceLog) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func (r *traceLog) trace() *Trace {
	return &Trace{
		AcquireStart: func(ctx context.Context, i AcquireStartInfo) context.Context {
			r.note("start %v %s try=%v", i.Kind, i.Name, i.Try)
			return context.WithValue(ctx, callKey{}, new(int))
		},
		Traceparent: func(ctx context.Context) string {
			r.ask()
			return fmt.Sprintf("00-%032x-%016x-01", 1, ctx.Value(callKey{}))
		},
		Queued: func(_ context.Context, i QueuedInfo) { r.note("queued %s behind %d", i.Name, i.Ahead) },
		AcquireEnd: func(ctx context.Context, i AcquireEndInfo) {
			if i.Behind != "" && !wire.Traceparent(i.Behind) {
				r.wrongly("behind %q", i.Behind)
			}
			if i.Err != nil {
				r.note("failed %s %s", i.Name, ErrorType(i.Err))
				return
			}
			r.began(ctx, 1)
			r.note("held %v %s %v after %v", i.Hold.Kind, i.Name, i.Path, i.Waited.Round(time.Millisecond))
		},
		Deadlock: func(_ context.Context, i DeadlockInfo) { r.note("deadlock %s", i.Name) },
		HoldEnd: func(ctx context.Context, i HoldEndInfo) {
			r.began(ctx, -1)
			r.note("end %s %s after %v", i.Hold.Name, ErrorType(i.Cause), i.Held.Round(time.Millisecond))
		},
		ReleaseEnd: func(_ context.Context, i ReleaseEndInfo) { r.note("release %s %s", i.Hold.Name, ErrorType(i.Err)) },
		Asked:      func(_ context.Context, i AskedInfo) { r.note("asked %s %s", i.Request.Name, i.Request.Reason) },
		Renewal: func(_ context.Context, i RenewalInfo) {
			if i.Err != nil {
				r.note("no renewal")
			}
		},
		SessionState: func(_ context.Context, i SessionStateInfo) {
			r.note("session %v %v %s", i.From, i.To, ErrorType(i.Err))
		},
		LeftBehind: func(_ context.Context, i LeftBehindInfo) { r.note("left behind %s", i.Name) },
		Role:       func(_ context.Context, i RoleInfo) { r.note("role %s %v", i.Election, i.Role) },
		TermEnd: func(_ context.Context, i TermEndInfo) {
			r.note("term %s led %v told %s stopped in %v lost %s", i.Election, i.Led.Round(time.Second), ErrorType(i.Told), i.Stop, ErrorType(i.Lost))
		},
		LeaderSeen: func(_ context.Context, i LeaderSeenInfo) { r.note("leader %s %q", i.Election, i.Leader.Value) },
		Stuck:      func(_ context.Context, i StuckTerm) { r.note("stuck %s", i.Term.Name()) },
		Health:     func(_ context.Context, i HealthInfo) { r.note("health %s %s", i.Election, ErrorType(i.Err)) },
	}
}

// traced makes a session whose events are recorded.
func (w *world) traced(client string, opts ...SessionOption) (*Session, *traceLog) {
	r := &traceLog{}
	s := w.session(client, append(opts, WithTrace(r.trace()))...)
	r.session.Store(s)
	require.Equal(w, []string{"session unknown connected "}, r.take())
	return s, r
}
