package etcdlock

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/pause"
)

// WireElections are the scenarios of elections.
var WireElections = []WireScenario{
	{"Election: a leader, a candidate, a new value", func(w *Wire) {
		a := w.campaign(NewElection(w.session("a"), "scheduler"), "host-a")
		b := w.candidate(NewElection(w.session("b"), "scheduler"), "host-b")
		w.Step("a proclaims")
		require.NoError(w, a.Proclaim(w.ctx, `{"url":"http://host-a:80"}`))
		require.NoError(w, a.Proclaim(w.ctx, ""))
		require.NoError(w, a.Proclaim(w.ctx, "\x00\xff"))
		w.Step("a resigns")
		w.unlock(a.Resign)
		w.unlock(b.get().Resign)
	}},
	{"Election: candidates with priorities step behind", func(w *Wire) {
		a := w.campaign(NewElection(w.session("a"), "e"), "a")
		b := w.candidate(NewElection(w.session("b"), "e", WithPriority(-1)), "b")
		c := w.candidate(NewElection(w.session("c"), "e", WithPriority(5)), "c")
		w.Step("a resigns")
		w.unlock(a.Resign)
		w.unlock(c.get().Resign)
		w.unlock(b.get().Resign)
	}},
	{"Election: a candidate takes over", func(w *Wire) {
		low := w.takingOver("a", 0, time.Second)
		leader := w.campaign(low, "a")
		next := w.candidate(w.takingOver("b", 5, 0), "b")
		by, err := leader.AwaitPreemption(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "b", by.Value)
		w.Step("a makes way, and campaigns again")
		w.unlock(leader.Resign)
		again := w.candidate(low, "a")
		w.unlock(next.get().Resign)
		w.unlock(again.get().Resign)
	}},
	{"Election: a transfer, past a candidate that steps behind", func(w *Wire) {
		a := w.campaign(NewElection(w.session("a"), "e"), "a")
		b := w.candidate(NewElection(w.session("b"), "e"), "b")
		c := w.candidate(NewElection(w.session("c"), "e"), "c")
		w.Step("a transfers to c")
		require.NoError(w, a.Transfer(w.ctx, "c"))
		next := c.get()
		w.Step("c resigns")
		w.unlock(next.Resign)
		w.unlock(b.get().Resign)
	}},
	{"Election: a Run that honours requests is asked for a transfer, and for a resignation", func(w *Wire) {
		run := w.run(NewElection(w.session("a"), "e"), nil, WithResignOnRequest())
		run.term()
		b := w.candidate(NewElection(w.session("b"), "e"), "b")
		w.Step("c asks for a transfer to b")
		operator := NewElection(w.session("c"), "e")
		require.NoError(w, operator.AskToTransfer(w.ctx, "b", "maintenance"))
		next := b.get()
		w.pass(2 * time.Second)
		w.unlock(next.Resign)
		run.term()
		w.pass(time.Second)
		b = w.candidate(NewElection(w.session("b"), "e"), "b")
		w.Step("c asks for a resignation")
		require.NoError(w, operator.AskToResign(w.ctx, ""))
		w.unlock(b.get().Resign)
		run.end()
	}},
	{"Election: a request for a transfer to a candidate that is not text", func(w *Wire) {
		run := w.run(NewElection(w.session("a"), "e"), nil, WithResignOnRequest())
		run.term()
		b := w.candidate(NewElection(w.session("b"), "e", WithPriority(1)), "b\xff")
		require.NoError(w, NewElection(w.session("c"), "e").AskToTransfer(w.ctx, "b\xff", ""))
		w.unlock(b.get().Resign)
		run.end()
	}},
	{"Election: a pause, behind which a candidate moves", func(w *Wire) {
		a := w.campaign(NewElection(w.session("a"), "e"), "a")
		b := w.candidate(NewElection(w.session("b"), "e", WithPriority(1)), "b")
		w.Step("c pauses the election")
		w.pause(time.Hour)
		w.Step("a resigns")
		w.unlock(a.Resign)
		w.pass(time.Second)
		w.Step("c ends the pause")
		require.NoError(w, pause.End(w.ctx, w.operator(), "e"))
		w.unlock(b.get().Resign)
	}},
	{"Election: Run, on the lease of the session", func(w *Wire) {
		run := w.run(NewElection(w.session("a"), "e"), nil)
		run.term()
		w.Step("Run ends")
		run.end()
	}},
	{"Election: Run with a bound for its work, on a lease of its own", func(w *Wire) {
		for _, opt := range []RunOption{WithStopTimeout(time.Second), WithProgress(time.Minute)} {
			run := w.run(NewElection(w.session("a"), "e"), nil, opt)
			run.term()
			w.Step("Run ends")
			run.end()
		}
	}},
	{"Election: Run leaves the queue while it is unhealthy", func(w *Wire) {
		var sick atomic.Bool
		run := w.run(NewElection(w.session("a"), "e"), nil, WithHealthCheck(HealthCheck{Interval: time.Second, Failures: 1, Check: func(context.Context) error {
			if sick.Load() {
				return errWork
			}
			return nil
		}}))
		run.term()
		w.Step("the check fails")
		sick.Store(true)
		w.pass(3 * time.Second)
		w.Step("the check passes")
		sick.Store(false)
		run.term()
		run.end()
	}},
}

// WireSessions are the scenarios of sessions.
var WireSessions = []WireScenario{
	{"Session: its TTL, and Close with a hold", func(w *Wire) {
		s := w.session("a", WithTTL(5*time.Second), WithMargin(time.Second))
		w.lock(NewMutex(s, "m"))
		w.Step("Close")
		require.NoError(w, s.Close(w.ctx))
	}},
	{"Session: a lock-delay is a part of the lease", func(w *Wire) {
		w.lock(NewMutex(w.session("a", WithTTL(5*time.Second), WithLockDelay(10*time.Second)), "m"))
		b := start(w.world, NewMutex(w.session("b"), "m").Lock)
		w.Step("a is cut off")
		w.Client("a").Cut()
		b.get()
		w.Client("a").Heal()
	}},
	{"Session: a new lease after a loss", func(w *Wire) {
		s := w.session("a")
		w.lock(NewMutex(s, "m"))
		w.Step("the lease is revoked")
		w.revokes(s.Lease())
		w.pass(time.Second)
		w.unlock(w.lock(NewMutex(s, "m")).Unlock)
	}},
	{"Session: Orphan, and a successor with its lease", func(w *Wire) {
		a := w.session("a")
		w.lock(NewMutex(a, "m"))
		w.read(NewRWMutex(a, "rw"))
		w.lock(NewMutex(a, "unwanted"))
		w.Step("a is orphaned")
		lease := w.orphan(a)
		w.Step("a2 goes on")
		s := w.session("a2", WithLease(lease))
		w.unlock(w.lock(NewMutex(s, "m")).Unlock)
		w.unlock(w.write(NewRWMutex(s, "rw")).Unlock)
		w.Step("a2 gives up the rest")
		require.NoError(w, s.ReleaseAdopted(w.ctx))
	}},
	{"Session: a lease file, and another TTL after it", func(w *Wire) {
		a := w.session("a", w.leaseFile())
		w.lock(NewMutex(a, "m"))
		w.acquire(NewSemaphore(a, "pool", 3), 2)
		w.campaign(NewElection(a, "e"), "of a")
		waits := start(w.world, NewMutex(a, "taken").Lock)
		w.Step("a is killed")
		w.killed("a", a)
		w.Step("a2 is started")
		a2 := w.session("a2", w.leaseFile())
		w.lock(NewMutex(a2, "m"))
		w.acquire(NewSemaphore(a2, "pool", 3), 2)
		w.campaign(NewElection(a2, "e"), "of a2")
		w.Step("a TTL later")
		w.pass(2 * ttl)
		w.Step("a2 is killed, and a3 is started with another TTL")
		w.killed("a2", a2)
		w.session("a3", w.leaseFile(), WithTTL(20*time.Second))
		w.Client("a").Heal()
		w.Client("a2").Heal()
		waits.cancel()
	}},
	{"Session: a lease file with Run on a lease of its own", func(w *Wire) {
		a := w.session("a", w.leaseFile())
		run := w.run(NewElection(a, "e"), nil, WithStopTimeout(time.Second))
		term := run.term()
		w.Step("a is killed")
		w.killed("a", a, own(term))
		w.Step("a2 is started")
		again := w.run(NewElection(w.session("a2", w.leaseFile()), "e"), nil, WithStopTimeout(time.Second))
		again.term()
		w.Step("a2 ends")
		again.end()
		run.cancel()
		<-run.done
	}},
	{"Session: crash detection, of a process that dies", func(w *Wire) {
		n := newFakeNet()
		w.campaign(NewElection(w.detecting(n, "a", "10.0.0.1:7400"), "e"), "a")
		b := w.candidate(NewElection(w.detecting(n, "b", "127.0.0.1:7400"), "e"), "b")
		w.Step("a dies")
		w.crash(n, "a", "10.0.0.1:7400")
		b.get()
		w.Client("a").Heal()
	}},
	{"Session: crash detection, of a process that is left by Orphan and taken over", func(w *Wire) {
		n := newFakeNet()
		a := w.detecting(n, "a", "10.0.0.1:7400")
		w.campaign(NewElection(a, "e"), "a")
		w.Step("a is orphaned")
		lease := w.orphan(a)
		w.Step("a2 goes on")
		w.detecting(n, "a2", "10.0.0.1:7401", WithLease(lease))
	}},
	{"Session: crash detection, and a lock-delay, with Run on a lease of its own", func(w *Wire) {
		run := w.run(NewElection(w.detecting(newFakeNet(), "a", "10.0.0.1:7400", WithLockDelay(5*time.Second)), "e"), nil, WithStopTimeout(time.Second))
		run.term()
		w.Step("Run ends")
		run.end()
	}},
}
