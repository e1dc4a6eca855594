package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// A process is one life of a service's instance, from its start to its end by Close, by Orphan, or
// by a kill. The next process of the instance has other options.
type process struct {
	*deployment
	inst    *instance
	id      string // of the process, and of its client
	row     row
	rand    *rand.Rand // of the process's own goroutine
	client  *simetcd.Client
	session *Session
	monitor Monitor
	trace   traceLog

	life    context.Context // of the workers
	end     context.CancelFunc
	runs    context.Context // of the Run, which ends first
	endRuns context.CancelFunc
	tasks   sync.WaitGroup // the workers
	running sync.WaitGroup // the Run
	exited  chan struct{}  // closed when WithExitWhenStuck has ended the process
	exit    sync.Once
	killed  chan struct{} // closed when the process is dead
	ending  atomic.Bool

	healthy atomic.Int64 // checks that are still to fail, as a negative number

	logs    func() int // how many lines were logged; nil without a logger of its own
	logsBy  string     // the option that gave it
	file    string     // lease file, "" if there is none
	address string     // of crash detection, "" if it is off
	adopted bool       // the lease is that of a process before
	given   clientv3.LeaseID

	mu      sync.Mutex
	effects map[int]int    // by factor: how often the option has changed what happened
	waiting map[string]int // by name: calls of Lock under way
	endRun  func()         // ends the Run under way
	turns   map[string]int // by name: releases while another goroutine of the process waited
}

// An instance is a place where one process runs after the other.
type instance struct {
	n       int
	left    clientv3.LeaseID // by Orphan, for WithLease
	file    string           // the lease file that is kept
	before  *process
	present atomic.Pointer[process] // nil between two
}

// value is what the instance's candidates propose.
func (in *instance) value() string { return fmt.Sprintf("instance-%d", in.n) }

func newRand(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// newProcess makes the nth process of an instance, which has not started yet.
func (f *deployment) newProcess(in *instance, n int) *process {
	r := newRand(f.seed, uint64(1000+100*in.n+n))
	p := &process{
		deployment: f, inst: in, id: fmt.Sprintf("p%d.%d", in.n, n), row: drawRow(r), rand: r,
		exited: make(chan struct{}), killed: make(chan struct{}),
		effects: map[int]int{}, waiting: map[string]int{}, turns: map[string]int{},
	}
	p.life, p.end = context.WithCancel(f.ctx)
	p.runs, p.endRuns = context.WithCancel(p.life)
	return p
}

// startProcess starts the nth process of an instance; nil if it could not.
func (f *deployment) startProcess(in *instance, n int) *process {
	p := f.newProcess(in, n)
	if in.left != clientv3.NoLease && p.rand.IntN(2) == 0 {
		p.row[factorIndex["session.WithLease"]], p.row[factorIndex["session.WithLeaseFile"]] = 1, 0 // as it has to be left first, it is rare
	}
	if f.calming.Load() { // a process without a check can lead when no fault is active
		p.row[factorIndex["run.WithHealthCheck"]] = 0
	}
	p.note("%s starts: %v", p.id, p.row)
	p.client = f.Client(p.id)
	f.clientOf.Store(p.id, p)
	ctx, cancel := context.WithTimeout(f.ctx, 30*time.Second)
	defer cancel()
	s, err := NewSession(ctx, p.client.Client, p.sessionOptions(ctx)...)
	if err != nil {
		p.note("%s does not start: %v", p.id, err)
		if !p.startMayFail(err) || f.well.Load() && !errors.Is(err, ErrInvalidOption) && !errors.Is(err, ErrLeaseNotFound) {
			f.violation(progress, "%s does not start: %v", p.id, err)
		}
		in.left = clientv3.NoLease
		p.end()
		_ = p.client.Close()
		return nil
	}
	p.session = s
	p.trace.session.Store(s)
	in.left = clientv3.NoLease
	p.started()
	return p
}

// startMayFail tells whether faults, or a lease that was granted under other options, explain why a session was not made.
func (p *process) startMayFail(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrLeaseNotFound) || isUnavailable(err) ||
		errors.Is(err, ErrInvalidOption) && p.given != clientv3.NoLease
}

// started takes note of what the session's options have changed by now.
func (p *process) started() {
	id := p.session.Lease()
	p.leaseOf.Store(id, p)
	if p.session.LeaseTTL() == p.row.duration("session.WithTTL")+p.row.duration("session.WithLockDelay") {
		p.effect("session.WithTTL")
	}
	if p.given != clientv3.NoLease && id == p.given {
		p.effect("session.WithLease")
	}
	if before := p.inst.before; before != nil && id != clientv3.NoLease && id == before.lastLease() {
		p.adopted = true
		p.note("%s goes on with the lease %x of %s", p.id, int64(id), before.id)
		p.cover.adopted(before.row, p.row)
		if p.file != "" {
			p.effect("session.WithLeaseFile")
		}
	}
	if p.file != "" && p.session.engine.LeaseFile().Read() == int64(id) {
		p.effect("session.WithLeaseFile")
	}
	p.op("NewSession")
	p.running.Go(p.elect)
	for i := range fleetWorkers {
		r := newRand(p.seed, hash(p.id)+uint64(i))
		p.tasks.Go(func() { (&locksmith{p, r, fmt.Sprintf("%s/%d", p.id, i)}).work() })
	}
	p.tasks.Go(func() { (&operator{p, newRand(p.seed, hash(p.id)+99)}).work() })
}

// lastLease is the lease that the session had last.
func (p *process) lastLease() clientv3.LeaseID {
	return p.session.engine.LastLease().ID()
}

// effect counts that an option has changed what happened.
func (p *process) effect(id string) {
	i, ok := factorIndex[id]
	if !ok {
		panic(id)
	}
	if p.row[i] == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.effects[i]++
}

func (p *process) dead() bool {
	select {
	case <-p.killed:
		return true
	default:
		return false
	}
}

// sessionOptions are those of the row, and how the simulation reaches etcd.
func (p *process) sessionOptions(ctx context.Context) []SessionOption {
	var opts []SessionOption
	if id := "session.WithLease"; p.row.has(id) {
		p.given = p.leaseToTake(ctx)
		if p.given == clientv3.NoLease {
			p.row[factorIndex[id]] = 0
		}
	}
	for _, v := range p.row.chosen("session") {
		opts = append(opts, v.session(p))
	}
	return append(opts, p.withClock(), sessionOptionFunc(func(c *sessionConfig) {
		c.Hooks.Network, c.Hooks.Slots = p.net, 1+int(p.seed%2)
		switch p.rand.IntN(3) {
		case 0:
			c.Hooks.Renewals = p.client.Remote()
		case 1:
			c.Hooks.Renewals = p.client.Remote()
			c.Hooks.Direct = p.client.Remote()
		default:
			c.Hooks.Watches = p.client.Remote()
		}
		if p.rand.IntN(2) == 0 {
			c.Hooks.ShortQueue, c.Hooks.Prefetch = -1, 1+p.rand.Int64N(4)
		}
		if p.rand.IntN(2) == 0 {
			c.Hooks.Crowd = -1
		}
	}))
}

func (p *process) withLogger(level string) SessionOption {
	at := zapcore.WarnLevel
	if level == "DEBUG" {
		at = zapcore.DebugLevel
	}
	core, logs := zapobserver.New(at)
	p.logs, p.logsBy = logs.Len, "session.WithLogger"
	return WithLogger(zap.New(core))
}

// lineCount counts what is written to it.
type lineCount struct{ n atomic.Int64 }

func (c *lineCount) Write(b []byte) (int, error) {
	c.n.Add(1)
	return len(b), nil
}

func (p *process) withSlog(level slog.Level) SessionOption {
	lines := &lineCount{}
	p.logs, p.logsBy = func() int { return int(lines.n.Load()) }, "session.WithSlog"
	return WithSlog(slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: level})))
}

// withTrace sets all hooks. Each of them takes the mutexes of the engine.
func (p *process) withTrace(string) SessionOption {
	p.trace.heard = func() {
		p.effect("session.WithTrace")
		p.op("Session.Stats", "Kind.String", "Path.String", "ErrorType", "LogTrace")
	}
	p.traces.Store(p, &p.trace)
	return WithTrace(p.trace.trace(), LogTrace(slog.New(slog.NewTextHandler(io.Discard, nil))))
}

// withClock is the clock of the process's machine, which is set and has any origin.
func (p *process) withClock() SessionOption {
	since, origin := bubbleClock(), time.Duration(p.seed%2)*time.Hour
	return withClock(func() time.Duration { return origin + since() + time.Duration(p.clocks[p.inst.n].Load()) })
}

// leaseToTake is the lease for WithLease. One that the process before has left is taken if there is one.
func (p *process) leaseToTake(ctx context.Context) clientv3.LeaseID {
	i := factorIndex["session.WithLease"]
	if p.inst.left != clientv3.NoLease {
		p.row[i] = 1
		return p.inst.left
	}
	p.row[i] = 2
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := p.client.Grant(ctx, int64((p.row.duration("session.WithTTL")+p.row.duration("session.WithLockDelay"))/time.Second))
	if err != nil {
		return clientv3.NoLease
	}
	return resp.ID
}

func (p *process) withLease(string) SessionOption { return WithLease(p.given) }

func (p *process) withLeaseFile(which string) SessionOption {
	if which == fileOther || p.inst.file == "" {
		p.inst.file = p.newFile(p.id)
	}
	p.file = p.inst.file
	return WithLeaseFile(p.file)
}

func (p *process) withCrashDetection(pattern string) SessionOption {
	p.address = fmt.Sprintf(pattern, 1+p.inst.n)
	return WithCrashDetection(p.address)
}

// newFile is the path of a lease file in a directory of its own.
func (f *deployment) newFile(name string) string {
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	return filepath.Join(dir, "lease")
}

// close ends the process in order.
func (p *process) close() {
	p.ending.Store(true)
	p.endRuns()
	p.running.Wait()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	well := p.well.Load() // no request of Close is lost
	err := p.session.Close(ctx)
	p.op("Session.Close")
	p.note("%s is closed: %v", p.id, err)
	if err != nil && well {
		p.violation(progress, "%s cannot close when all is well again: %v", p.id, err)
	}
	p.reap()
}

// orphan leaves the lease to the next process.
func (p *process) orphan() {
	p.ending.Store(true)
	ctx, cancel := context.WithTimeout(p.ctx, 8*time.Second)
	defer cancel()
	id, err := p.session.Orphan(ctx)
	p.note("%s leaves its lease %x: %v", p.id, int64(id), err)
	if err != nil {
		p.close()
		return
	}
	p.op("Session.Orphan")
	p.endRuns()
	p.running.Wait()
	p.reap()
	if p.file == "" {
		p.inst.left = id
	}
}

// die is what others see of kill -9: at this instant the process does nothing more.
func (p *process) die(how string) {
	p.exit.Do(func() {
		p.died(p, how)
		close(p.killed)
		close(p.exited)
	})
}

// kill ends the process without its doing. What it had sent arrives; its lease runs out unless the
// next process has the lease file.
func (p *process) kill(how string) {
	p.die(how)
	p.ending.Store(true)
	if p.file != "" {
		// The kernel frees the lock of the file, and what is written stays. A file that the
		// remains of the process write while they are cleared away is not used.
		p.inst.file = p.saveLeaseFiles()
	}
	if p.address != "" {
		p.net.kill(p.address)
	}
	_ = p.client.Close()
	p.endRuns()
	p.running.Wait()
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	_ = p.session.Close(ctx)
	p.reap()
}

// saveLeaseFiles copies the lease file, and those of Runs beside it.
func (p *process) saveLeaseFiles() (copied string) {
	copied = p.newFile("saved-" + p.id)
	all, err := filepath.Glob(p.file + "*")
	if err != nil {
		panic(err)
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(copied+strings.TrimPrefix(path, p.file), content, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
	return copied
}

// reap waits until nothing of the process is left, and takes stock.
func (p *process) reap() {
	p.end()
	p.tasks.Wait()
	_ = p.client.Close()
	if p.logs != nil && p.logs() > 0 {
		p.effect(p.logsBy)
	}
	p.cover.process(p)
}
