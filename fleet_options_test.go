package etcdlock

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"
)

// A factor is one option of a fleet's processes, and the values that it is given there.
type factor struct {
	option string // name of the exported function
	at     string // what the option is given to: session, lock, election or run
	always bool   // true if it is never left out
	values []optionValue
}

// An optionValue is one use of an option. Exactly one of the functions is set.
type optionValue struct {
	value    any // the argument that the effects are judged by
	session  func(p *process) SessionOption
	lock     func() MutexOption
	election func() ElectionOption
	run      func(p *process) RunOption
}

func (f *factor) id() string { return f.at + "." + f.option }

// level names a value of a factor; 0 is the option left out.
func (f *factor) level(n int) string {
	if n == 0 {
		return f.id() + " left out"
	}
	return fmt.Sprintf("%s(%v)", f.id(), f.values[n-1].value)
}

// each makes the values of a factor from arguments of one type.
func each[T any](set func(v *optionValue, arg T), args ...T) []optionValue {
	values := make([]optionValue, len(args))
	for i, arg := range args {
		values[i].value = arg
		set(&values[i], arg)
	}
	return values
}

func sessionValues[T any](option func(p *process, arg T) SessionOption, args ...T) []optionValue {
	return each(func(v *optionValue, arg T) {
		v.session = func(p *process) SessionOption { return option(p, arg) }
	}, args...)
}

func lockValues[T any, O MutexOption](option func(T) O, args ...T) []optionValue {
	return each(func(v *optionValue, arg T) { v.lock = func() MutexOption { return option(arg) } }, args...)
}

func electionValues[T any](option func(T) ElectionOption, args ...T) []optionValue {
	return each(func(v *optionValue, arg T) { v.election = func() ElectionOption { return option(arg) } }, args...)
}

func runValues[T any](option func(p *process, arg T) RunOption, args ...T) []optionValue {
	return each(func(v *optionValue, arg T) {
		v.run = func(p *process) RunOption { return option(p, arg) }
	}, args...)
}

const on = "on" // the value of an option that has no argument

// The values of WithLease and WithLeaseFile.
const (
	leaseLeft    = "left by the process before"
	leaseGranted = "granted for it"
	fileKept     = "kept over restarts"
	fileOther    = "another one each time"
)

// healthEvery is how a health check of the fleet is called.
type healthEvery struct {
	interval time.Duration
	failures int
}

// factors are all exported options. TestEveryOptionIsAFactorOfTheFleet compares them with the
// package's source.
//
// What an option has changed is counted as its effect, by process.effect, where the test sees it
// from outside: in etcd, in an answer, in a callback. A value that had no effect in a process
// does not count for that process.
var factors []factor

func init() {
	factors = []factor{
		{option: "WithTTL", at: "session", always: true, values: sessionValues(func(_ *process, d time.Duration) SessionOption { return WithTTL(d) },
			2*time.Second, 3*time.Second, 5*time.Second)},
		{option: "WithMargin", at: "session", values: sessionValues(func(_ *process, d time.Duration) SessionOption { return WithMargin(d) },
			150*time.Millisecond, time.Second)},
		{option: "WithLogger", at: "session", values: sessionValues((*process).withLogger, "WARN", "DEBUG")},
		{option: "WithSlog", at: "session", values: sessionValues((*process).withSlog, slog.LevelWarn, slog.LevelDebug)},
		{option: "WithLease", at: "session", values: sessionValues((*process).withLease, leaseLeft, leaseGranted)},
		{option: "WithLeaseFile", at: "session", values: sessionValues((*process).withLeaseFile, fileKept, fileOther)},
		{option: "WithForeignNames", at: "session", values: sessionValues(func(*process, string) SessionOption { return WithForeignNames() }, on)},
		{option: "WithOwner", at: "session", values: sessionValues(func(_ *process, owner string) SessionOption { return WithOwner(owner) },
			"red", "blue")},
		{option: "WithDeadlockDetection", at: "session", values: sessionValues(func(_ *process, prefix string) SessionOption {
			return WithDeadlockDetection(prefix)
		}, "", "dead/")},
		{option: "WithLockDelay", at: "session", values: sessionValues(func(_ *process, d time.Duration) SessionOption { return WithLockDelay(d) },
			2*time.Second, 4*time.Second)},
		{option: "WithCrashDetection", at: "session", values: sessionValues((*process).withCrashDetection, "10.0.0.%d:7400", "127.0.0.1:740%d")},
		{option: "WithTrace", at: "session", values: sessionValues((*process).withTrace, on)},

		{option: "WithOwner", at: "lock", values: lockValues(WithOwner, "green", "gold")},
		{option: "WithTimeSlice", at: "lock", values: lockValues(WithTimeSlice, 0, time.Second)},
		{option: "WithRetention", at: "lock", values: lockValues(WithRetention, 400*time.Millisecond, 2*time.Second)},
		{option: "WithReentry", at: "lock", values: lockValues(WithReentry, 1, 2)},
		{option: "WithMaxHold", at: "lock", values: lockValues(WithMaxHold, 100*time.Millisecond, 400*time.Millisecond)},
		{option: "WithDeadlockDetection", at: "lock", values: lockValues(WithDeadlockDetection, "d", "de")},

		{option: "WithPriority", at: "election", values: electionValues(WithPriority, 1, 3)},
		{option: "WithTakeover", at: "election", values: electionValues(WithTakeover, 0, time.Second)},

		{option: "WithStopTimeout", at: "run", values: runValues(func(_ *process, d time.Duration) RunOption { return WithStopTimeout(d) },
			400*time.Millisecond, 2*time.Second)},
		{option: "WithOnStuck", at: "run", values: runValues((*process).withOnStuck, on)},
		{option: "WithExitWhenStuck", at: "run", values: runValues((*process).withExit, on)},
		{option: "WithProgress", at: "run", values: runValues(func(_ *process, d time.Duration) RunOption { return WithProgress(d) },
			700*time.Millisecond, 2*time.Second)},
		{option: "WithHealthCheck", at: "run", values: runValues((*process).withHealthCheck,
			healthEvery{200 * time.Millisecond, 1}, healthEvery{250 * time.Millisecond, 3})},
		{option: "WithResignOnRequest", at: "run", values: runValues(func(*process, string) RunOption { return WithResignOnRequest() }, on)},
		{option: "WithOnLeader", at: "run", values: runValues((*process).withOnLeader, on)},
		{option: "WithOnRole", at: "run", values: runValues((*process).withOnRole, on)},
		{option: "WithMonitor", at: "run", values: runValues(func(p *process, _ string) RunOption { return WithMonitor(&p.monitor) }, on)},
	}
	for i := range factors {
		factorIndex[factors[i].id()] = i
	}
}

// An exclusion is a combination that a process cannot have: the library refuses it, with
// ErrInvalidOption, or one of the options does nothing then.
type excludedUse struct {
	a, b    string // ids of factors
	without bool   // true if a cannot be used without b
	idle    bool   // true if it is not refused; see TestTheLaterLoggerCounts
	reason  string
}

var exclusions = []excludedUse{
	{a: "session.WithLease", b: "session.WithLeaseFile", reason: "WithLease and WithLeaseFile exclude each other"},
	{a: "session.WithLogger", b: "session.WithSlog", idle: true, reason: "the later one of the two counts, and the other one does nothing"},
	{a: "run.WithOnStuck", b: "run.WithStopTimeout", without: true, reason: "nothing tells from when on a function is stuck"},
	{a: "run.WithExitWhenStuck", b: "run.WithStopTimeout", without: true, reason: "nothing tells from when on a function is stuck"},
}

// A row is what one process is given: the level of each factor.
type row []int

// factorIndex finds factors by their ids.
var factorIndex = map[string]int{}

// drawRow draws a row in which nothing is excluded.
func drawRow(r *rand.Rand) row {
	levels := make(row, len(factors))
	for i := range factors {
		f := &factors[i]
		levels[i] = r.IntN(len(f.values) + 1)
		if f.always {
			levels[i] = 1 + r.IntN(len(f.values))
		}
	}
	for _, x := range exclusions {
		a, b := factorIndex[x.a], factorIndex[x.b]
		switch {
		case x.without && levels[a] > 0 && levels[b] == 0:
			levels[b] = 1 + r.IntN(len(factors[b].values))
		case !x.without && levels[a] > 0 && levels[b] > 0:
			levels[[]int{a, b}[r.IntN(2)]] = 0
		}
	}
	return levels
}

func (r row) has(id string) bool { return r[factorIndex[id]] > 0 }

// value is the argument of an option, nil if it is left out.
func (r row) value(id string) any {
	i := factorIndex[id]
	if r[i] == 0 {
		return nil
	}
	return factors[i].values[r[i]-1].value
}

func (r row) duration(id string) time.Duration {
	d, _ := r.value(id).(time.Duration)
	return d
}

func (r row) text(id string) string {
	s, _ := r.value(id).(string)
	return s
}

func (r row) number(id string) int {
	n, _ := r.value(id).(int)
	return n
}

// String tells what is not left out.
func (r row) String() string {
	var given []string
	for i := range factors {
		if r[i] > 0 {
			given = append(given, factors[i].level(r[i]))
		}
	}
	return strings.Join(given, " ")
}

// chosen are the values of the factors that are given to one thing.
func (r row) chosen(at string) (values []*optionValue) {
	for i := range factors {
		if f := &factors[i]; f.at == at && r[i] > 0 {
			values = append(values, &f.values[r[i]-1])
		}
	}
	return values
}

// operations are those of the API that a fleet has to have called with success, and what takes more than one
// process to happen. TestEveryOperationIsOneOfTheFleet compares them with the package's source.
var operations = []string{
	"Session.Ask", "Election.AskToResign", "Election.AskToTransfer", "Deadlock.String", "Session.Deadlocks", "Election.Campaign", "Election.Candidates", "Election.Leader", "Election.Name",
	"Election.Observe", "Election.Queue", "Election.Run", "HoldOf", "Lock.Asked", "Lock.Context", "Lock.CreateRevision", "Lock.Deadline", "Lock.Done", "Lock.Err",
	"Lock.Guard", "Lock.Key", "Lock.Token", "Leader.Vacant", "Leader.Paused", "Lock.Name", "Lock.Unlock", "LockSet.Asked", "LockSet.Context",
	"LockSet.Deadline", "LockSet.Done", "LockSet.Err", "LockSet.Guards", "LockSet.Keys", "LockSet.Names", "LockSet.Token",
	"LockSet.Unlock", "Monitor.Candidates", "Monitor.Status", "MultiMutex.Do", "MultiMutex.Lock", "MultiMutex.Names", "MultiMutex.Queue",
	"MultiMutex.TryLock", "NewMultiMutex", "Mutex.Do", "Mutex.Lock", "Mutex.Locker", "Mutex.Name", "Mutex.Queue",
	"Mutex.TryLock", "ErrorType", "Kind.String", "LogTrace", "Path.String", "NewElection", "NewMutex", "NewRWMutex", "NewSemaphore", "NewSession", "NewStriped", "Permit.Permits",
	"Permit.Release", "RWMutex.Do", "RWMutex.Lock", "RWMutex.Name", "RWMutex.Queue", "RWMutex.RDo", "RWMutex.RLock", "RWMutex.TryLock",
	"RWMutex.TryRLock", "ReadLock.Unlock", "ReadLock.Upgrade", "Role.String", "Semaphore.Acquire", "Semaphore.Do", "Semaphore.Limit",
	"Semaphore.Name", "Semaphore.Queue", "Semaphore.SetLimit", "Semaphore.TryAcquire", "Session.Client", "Session.Close",
	"Session.Done", "Session.ReleaseAdopted", "Session.Err", "Session.Adopted", "Session.Lease", "Session.LeaseTTL", "Session.Orphan", "Session.State",
	"Session.States", "Session.Stats", "Session.TTL", "State.String", "ElectionStatus.Leading", "Striped.For", "Striped.Len", "Term.AwaitPreemption",
	"Term.Proclaim", "Term.Progress", "Term.Resign", "Term.Transfer", "Term.Value", "WriteLock.Downgrade",
	"WriteLock.Unlock",

	"ErrDeadlock", "etcd m", "etcd e", "compat m", "compat e", "a leader made way for one of a higher priority",
	"a function was stuck", "a process ended itself", "a dead leader's lease was revoked",
}
