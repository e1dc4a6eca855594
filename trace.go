package etcdlock

import (
	"context"
)

// Trace is a set of hooks, in the manner of net/http/httptrace, for metrics, traces and logs. Give
// it to a session with [WithTrace]. Any hook may be nil. A session copies the hooks when it is made.
//
// Hooks are called without a mutex of this package. They may be called at the same time, so they
// have to be safe for concurrent use, and they may call any method of the session. Each takes one
// struct, which can get more fields in a later version.
//
// A hook never affects which session holds. A hold ends at its deadline by the clock, and a key is
// deleted by requests that wait for no hook:
//   - AcquireStart, Queued, AcquireEnd and ReleaseEnd are called by the goroutine of the call, and so
//     is the HoldEnd of a release, after etcd has answered. A hook that blocks delays this call. While
//     Queued blocks, the call stays in the queue even if its context ends, and may hold. While
//     AcquireEnd blocks, its caller holds what it has not received yet.
//   - The HoldEnd of a loss has a goroutine of its own.
//   - Renewal, SessionState, LeftBehind and Asked are called one after the other, in order, by one
//     goroutine for each session. While one of them blocks, the next ones wait, and beyond 1024 of
//     them further ones are dropped, except for SessionState.
//   - Role, TermEnd, LeaderSeen and Health are called as the callbacks of [Election.Run] are, see
//     [WithOnRole], and Stuck as [WithOnStuck] is.
//
// [Session.Close] does not wait for hooks. Release before Close if a trace has to have each HoldEnd
// when the program ends.
//
// A panic in a hook is not recovered. In the goroutine of a call it passes through the call. In
// AcquireEnd the hold is released first, because the caller cannot receive it any more. The hooks of
// later traces are called nevertheless, so that their counts agree. A call that has panicked before has
// no AcquireEnd. In any other goroutine a panic ends the program, and all its holds with it.
//
// The order of events of several calls is not promised. A hold that is lost in the instant of its
// grant can have its HoldEnd before its AcquireEnd. When goroutines of a session hand over in memory,
// AcquireEnd of the next one can come before HoldEnd of the one before it.
type Trace struct {
	// AcquireStart is called when a call begins to acquire. The call uses the context that it
	// returns, which is to be derived from ctx, and later hooks of the call and its hold get it too.
	AcquireStart func(ctx context.Context, info AcquireStartInfo) context.Context
	// Traceparent returns the span that the call belongs to, as the header traceparent of the W3C's
	// Trace Context has it. It is called once for each call, after AcquireStart, with the context that
	// AcquireStart has returned. The key of the call has the traceparent in its value, unless it is
	// that of an election, whose value is the proposal. [QueueEntry] has it, and a call that has waited
	// for the key gets it as [AcquireEndInfo.Behind]. Of several traces the first result counts that is
	// a traceparent.
	Traceparent func(ctx context.Context) string
	// Queued is called once if the call has to wait, in etcd or for another goroutine of the session.
	// [ReadLock.Upgrade] waits without it.
	Queued func(ctx context.Context, info QueuedInfo)
	// AcquireEnd is called when the call returns, with a hold or an error.
	AcquireEnd func(ctx context.Context, info AcquireEndInfo)
	// Deadlock is called before AcquireEnd, if the call is refused with [ErrDeadlock].
	Deadlock func(ctx context.Context, info DeadlockInfo)
	// HoldEnd is called once for each hold, when it is released or lost. A hold that is converted by
	// Downgrade or Upgrade ends as released, and another one begins.
	HoldEnd func(ctx context.Context, info HoldEndInfo)
	// ReleaseEnd is called when an Unlock, Release, Resign or Transfer returns. A Transfer that has
	// found no candidate releases nothing, and is not told.
	ReleaseEnd func(ctx context.Context, info ReleaseEndInfo)
	// Asked is called with each request that a hold receives by its method Asked.
	Asked func(ctx context.Context, info AskedInfo)

	// Renewal is called for each renewal of the lease that was answered, failed or is overdue.
	Renewal func(ctx context.Context, info RenewalInfo)
	// SessionState is called for each state of the session, as [Session.States] yields it.
	SessionState func(ctx context.Context, info SessionStateInfo)
	// LeftBehind is called for a key that a request without an answer may have left in etcd. The
	// session deletes the key in the background.
	LeftBehind func(ctx context.Context, info LeftBehindInfo)

	// Role is called for each role of an [Election.Run], as the callback of WithOnRole is.
	Role func(ctx context.Context, info RoleInfo)
	// TermEnd is called when the function of an Election.Run has returned.
	TermEnd func(ctx context.Context, info TermEndInfo)
	// LeaderSeen is called for each observation of a leader by an Election.Run. With this hook each
	// Run observes its election.
	LeaderSeen func(ctx context.Context, info LeaderSeenInfo)
	// Stuck is called when the function of an Election.Run is stuck.
	Stuck func(ctx context.Context, info StuckTerm)
	// Health is called for each change of the health of an Election.Run with [WithHealthCheck].
	Health func(ctx context.Context, info HealthInfo)
}
