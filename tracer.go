package etcdlock

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/internal/leaderloop"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
	"github.com/etcdlock/etcdlock/internal/notify"
	"github.com/etcdlock/etcdlock/internal/session"
)

// The events of a session come from here. A call reports its own events, in its goroutine (call).
// The end of a hold is the end of its context (tracedHold). What the engine reports with a mutex held
// goes through a queue. Without WithTrace there is no tracer, and all of this is one comparison.

// tracer calls the hooks of all traces of a session. Each field of Trace calls that hook of each of
// them, and is nil if none has it.
type tracer struct {
	Trace
	later *notify.Queue // of what the engine reports
}

// newTracer returns nil if there is no trace.
func newTracer(traces []*Trace) *tracer {
	var given []*Trace
	for _, t := range traces {
		if t != nil {
			given = append(given, t)
		}
	}
	if len(given) == 0 {
		return nil
	}
	return &tracer{Trace: compose(given), later: &notify.Queue{}}
}

// with returns a tracer that calls the hooks of another trace too.
func (t *tracer) with(other *Trace) *tracer {
	if t == nil {
		return newTracer([]*Trace{other})
	}
	return &tracer{Trace: compose([]*Trace{&t.Trace, other}), later: t.later}
}

func compose(traces []*Trace) Trace {
	return Trace{
		AcquireStart: startAll(traces),
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
	return func(ctx context.Context, info I) {
		for _, h := range hooks {
			h(ctx, info)
		}
	}
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

// call calls a hook, if there is one.
func call[I any](ctx context.Context, hook func(context.Context, I), info I) {
	if hook != nil {
		hook(ctx, info)
	}
}

// tracedCall is a call that acquires, of a session with a tracer. Its methods do nothing for nil.
type tracedCall struct {
	tracer *tracer
	ctx    context.Context // that AcquireStart has returned
	info   AcquireStartInfo
	began  time.Time
}

// start reports the start of a call, and returns its context. It returns nil without a tracer.
func (t *tracer) start(ctx context.Context, info AcquireStartInfo) (*tracedCall, context.Context) {
	if t == nil {
		return nil, ctx
	}
	info.Names = slices.Clone(info.Names) // a hook may keep or change them
	c := &tracedCall{tracer: t, ctx: ctx, info: info, began: time.Now()}
	if t.AcquireStart != nil {
		c.ctx = t.AcquireStart(ctx, info)
	}
	return c, c.ctx
}

// waiting tells the call that it has to wait; nil if no hook is told.
func (c *tracedCall) waiting() *lockmgr.Waiting {
	if c == nil || c.tracer.Queued == nil {
		return nil
	}
	return lockmgr.NewWaiting(func(ahead int) { c.tracer.Queued(c.ctx, QueuedInfo{c.info, ahead}) })
}

// end reports the end of the call, and returns the hold as it is to be traced.
func (c *tracedCall) end(h hold, err error) (hold, error) {
	if c == nil {
		return h, err
	}
	info := AcquireEndInfo{AcquireStartInfo: c.info, Err: err, Waited: time.Since(c.began)}
	if err != nil {
		if errors.Is(err, ErrDeadlock) {
			d := DeadlockInfo{AcquireStartInfo: c.info}
			_ = errors.As(err, &d.Err)
			call(c.ctx, c.tracer.Deadlock, d)
		}
		call(c.ctx, c.tracer.AcquireEnd, info)
		return hold{}, err
	}
	h.traced = newTracedHold(c, h.of)
	info.Path, info.Hold = Path(h.of.Path())+PathFree, h.traced.info
	returned := false
	defer func() {
		if !returned { // the hook has panicked, or ended this goroutine
			h.of.Abandon()
		}
	}()
	call(c.ctx, c.tracer.AcquireEnd, info)
	returned = true
	return h, nil
}

// convert reports the start of a call that makes the hold one of another kind. ended is to be called
// when it has, or has failed.
func (h *tracedHold) convert(ctx context.Context, kind Kind) (c *tracedCall, in context.Context, ended func()) {
	if h == nil {
		return nil, ctx, func() {}
	}
	c, in = h.tracer.start(ctx, AcquireStartInfo{Kind: kind, Name: h.info.Name})
	end := h.claim()
	return c, in, func() { end(h.lasted()) }
}

// tracedHold is a hold of a session with a tracer.
type tracedHold struct {
	tracer *tracer
	ctx    context.Context // that of the call that has acquired
	of     *lockmgr.Hold
	info   HoldInfo
	began  time.Duration               // by the session's clock, which goes on while the machine sleeps
	unset  atomic.Pointer[func() bool] // stops waiting for the end of the hold
}

func newTracedHold(c *tracedCall, of *lockmgr.Hold) *tracedHold {
	entry := of.Entry()
	if c.info.Names != nil {
		entry = of.EntryOf(c.info.Name)
	}
	h := &tracedHold{tracer: c.tracer, ctx: c.ctx, of: of, began: of.Now(), info: HoldInfo{
		Kind: c.info.Kind, Name: c.info.Name, Names: c.info.Names, Key: entry.Key,
		Token: of.Token(), CreateRevision: entry.CreateRevision, Lease: entry.Lease, Since: time.Now(),
	}}
	h.await()
	return h
}

// await has the end of the hold reported when its context ends.
func (h *tracedHold) await() {
	if h.tracer.HoldEnd == nil {
		return
	}
	stop := context.AfterFunc(h.of.Context(), func() { h.report(h.lasted()) })
	h.unset.Store(&stop)
}

// claim leaves it to the caller to report the end of the hold, by ended, after a call that was made to
// end the hold.
func (h *tracedHold) claim() (ended func(held time.Duration)) {
	stop := h.unset.Load()
	if stop == nil || !(*stop)() {
		return func(time.Duration) {} // it is reported already
	}
	return func(held time.Duration) {
		if h.of.Err() == nil { // it goes on
			h.await()
		} else {
			h.report(held)
		}
	}
}

// lasted is how long the hold has lasted, or had when it was lost.
func (h *tracedHold) lasted() time.Duration { return max(h.of.Now()-h.began, 0) }

func (h *tracedHold) report(held time.Duration) {
	h.tracer.HoldEnd(h.ctx, HoldEndInfo{Hold: h.info, Held: held, Cause: h.of.Err()})
}

// release reports a release. The end of the hold is reported once etcd has answered, so that no hook
// delays the next holder.
func (h *tracedHold) release(by func() error) error {
	began, held := time.Now(), h.lasted()
	ended := h.claim()
	err := by()
	took := time.Since(began)
	ended(held)
	call(h.ctx, h.tracer.ReleaseEnd, ReleaseEndInfo{Hold: h.info, Took: took, Err: err})
	return err
}

// asked reports a request to release the hold.
func (h *tracedHold) asked(r ReleaseRequest) {
	if h != nil && h.tracer.Asked != nil {
		h.tracer.put(func() { h.tracer.Asked(h.ctx, AskedInfo{r}) })
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
			t.put(func() {
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

// reportRun has a loop report to the hooks.
func (t *tracer) reportRun(election string, l *leaderloop.Config) {
	ctx := context.Background()
	if t.Role != nil {
		l.OnRole = func(r leaderloop.Role) { t.Role(ctx, RoleInfo{election, Role(r)}) }
	}
	if t.Health != nil {
		l.OnHealth = func(err error) { t.Health(ctx, HealthInfo{election, err}) }
	}
	if t.Stuck != nil {
		l.OnStuck = func(term leaderloop.Term, cause error, after time.Duration) {
			t.Stuck(ctx, StuckTerm{Term: termOf(term), Cause: cause, After: after})
		}
	}
	if t.TermEnd != nil {
		l.OnTermEnd = func(term leaderloop.Term, e leaderloop.TermEnd) {
			t.TermEnd(ctx, TermEndInfo{
				Election: election, Token: term.Token(), CreateRevision: termOf(term).CreateRevision(),
				Led: e.Led, Told: e.Told, Stop: e.Stop, Lost: e.Lost,
			})
		}
	}
}
