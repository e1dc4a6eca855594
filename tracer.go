package etcdlock

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock/internal/notify"
	"github.com/etcdlock/etcdlock/internal/session"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// The events of a session come from here. A call reports its own events, in its goroutine (tracedCall).
// The end of a hold is the end of its context (tracedHold). What the engine reports with a mutex held
// goes through a queue. Without WithTrace there is no tracer, and all of this is one comparison.

// tracer calls the hooks of all traces of a session. Each field of Trace calls that hook of each of
// them, and is nil if none has it.
type tracer struct {
	Trace
	calls *callHooks
	later *notify.Queue // of what the engine reports
}

// newTracer returns nil if there is no trace. clock is that of the session.
func newTracer(traces []*Trace, clock func() time.Duration) *tracer {
	var given []*Trace
	for _, t := range traces {
		if t != nil {
			given = append(given, t)
		}
	}
	if len(given) == 0 {
		return nil
	}
	return newTracerOf(compose(given), &notify.Queue{}, clock)
}

func newTracerOf(t Trace, later *notify.Queue, clock func() time.Duration) *tracer {
	return &tracer{Trace: t, later: later, calls: &callHooks{
		clock: clock, later: later,
		acquireStart: t.AcquireStart, traceparent: t.Traceparent, queued: t.Queued, acquireEnd: t.AcquireEnd, deadlock: t.Deadlock,
		holdEnd: t.HoldEnd, releaseEnd: t.ReleaseEnd, asked: t.Asked,
	}}
}

// with returns a tracer that calls the hooks of another trace too.
func (t *tracer) with(other *Trace) *tracer {
	if t == nil {
		return newTracer([]*Trace{other}, nil) // a Run makes no calls of its own
	}
	return newTracerOf(compose([]*Trace{&t.Trace, other}), t.later, t.calls.clock)
}

// start reports the start of a call, and returns its context. It returns nil without a tracer.
func (t *tracer) start(ctx context.Context, info AcquireStartInfo) (*tracedCall, context.Context) {
	if t == nil {
		return nil, ctx
	}
	return t.calls.start(ctx, info)
}

func compose(traces []*Trace) Trace {
	return Trace{
		AcquireStart: startAll(traces),
		Traceparent:  traceparentOf(traces),
		Queued:       all(traces, func(t *Trace) func(context.Context, QueuedInfo) { return t.Queued }),
		AcquireEnd:   all(traces, func(t *Trace) func(context.Context, AcquireEndInfo) { return t.AcquireEnd }),
		Deadlock:     all(traces, func(t *Trace) func(context.Context, DeadlockInfo) { return t.Deadlock }),
		HoldEnd:      all(traces, func(t *Trace) func(context.Context, HoldEndInfo) { return t.HoldEnd }),
		ReleaseEnd:   all(traces, func(t *Trace) func(context.Context, ReleaseEndInfo) { return t.ReleaseEnd }),
		Asked:        all(traces, func(t *Trace) func(context.Context, AskedInfo) { return t.Asked }),
		Renewal:      all(traces, func(t *Trace) func(context.Context, RenewalInfo) { return t.Renewal }),
		SessionState: all(traces, func(t *Trace) func(context.Context, SessionStateInfo) { return t.SessionState }),
		LeftBehind:   all(traces, func(t *Trace) func(context.Context, LeftBehindInfo) { return t.LeftBehind }),
		Role:         all(traces, func(t *Trace) func(context.Context, RoleInfo) { return t.Role }),
		TermEnd:      all(traces, func(t *Trace) func(context.Context, TermEndInfo) { return t.TermEnd }),
		LeaderSeen:   all(traces, func(t *Trace) func(context.Context, LeaderSeenInfo) { return t.LeaderSeen }),
		Stuck:        all(traces, func(t *Trace) func(context.Context, StuckTerm) { return t.Stuck }),
		Health:       all(traces, func(t *Trace) func(context.Context, HealthInfo) { return t.Health }),
	}
}

// all returns a function that calls one hook of each trace; nil if no trace has it.
func all[I any](traces []*Trace, hook func(*Trace) func(context.Context, I)) func(context.Context, I) {
	var hooks []func(context.Context, I)
	for _, t := range traces {
		if h := hook(t); h != nil {
			hooks = append(hooks, h)
		}
	}
	switch len(hooks) {
	case 0:
		return nil
	case 1:
		return hooks[0]
	}
	return func(ctx context.Context, info I) { callAll(hooks, ctx, info) }
}

// callAll calls all hooks in order, also if one of them panics: what one trace is told has a counterpart
// that it is told later, and the traces after it are told that too.
func callAll[I any](hooks []func(context.Context, I), ctx context.Context, info I) { //nolint:revive // ctx is that of the hooks
	if len(hooks) == 0 {
		return
	}
	defer callAll(hooks[1:], ctx, info)
	hooks[0](ctx, info)
}

// startAll is all for AcquireStart: each hook gets the context of the one before.
func startAll(traces []*Trace) func(context.Context, AcquireStartInfo) context.Context {
	var hooks []func(context.Context, AcquireStartInfo) context.Context
	for _, t := range traces {
		if t.AcquireStart != nil {
			hooks = append(hooks, t.AcquireStart)
		}
	}
	if len(hooks) == 0 {
		return nil
	}
	return func(ctx context.Context, info AcquireStartInfo) context.Context {
		for _, h := range hooks {
			if next := h(ctx, info); next != nil {
				ctx = next //nolint:fatcontext // one value from each hook, once for a call
			}
		}
		return ctx
	}
}

// traceparentOf returns a function that returns the first result that is a traceparent; nil if no trace
// has the hook.
func traceparentOf(traces []*Trace) func(context.Context) string {
	var hooks []func(context.Context) string
	for _, t := range traces {
		if t.Traceparent != nil {
			hooks = append(hooks, t.Traceparent)
		}
	}
	if len(hooks) == 0 {
		return nil
	}
	return func(ctx context.Context) string {
		for _, h := range hooks {
			if s := h(ctx); wire.Traceparent(s) {
				return s
			}
		}
		return ""
	}
}

// report has the engine report to the hooks. Its functions are called with mutexes held.
func (t *tracer) report(cfg *session.Config) {
	if t == nil {
		return
	}
	if t.Renewal != nil {
		cfg.OnRenewal = func(rtt, left time.Duration, err error) {
			t.put(func() { t.Renewal(context.Background(), RenewalInfo{RTT: rtt, Left: left, Err: err}) })
		}
	}
	if t.SessionState != nil {
		cfg.OnState = func(from, to session.State, why error) {
			t.later.PutAlways(func() { // a gauge of sessions would be wrong for good if it missed one
				t.SessionState(context.Background(), SessionStateInfo{From: State(from), To: State(to), Err: why})
			})
		}
	}
}

// leftBehind is the function of that name of a lock manager; nil if no hook is told.
func (t *tracer) leftBehind() func(name, key string) {
	if t == nil || t.LeftBehind == nil {
		return nil
	}
	return func(name, key string) {
		t.put(func() { t.LeftBehind(context.Background(), LeftBehindInfo{Name: name, Key: key}) })
	}
}

func (t *tracer) put(call func()) { t.later.Put(call) }
