package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// held is the hold under which a command runs: a lock, several locks, permits or a term.
type held interface {
	Done() <-chan struct{}
	Err() error
	Token() int64
	Deadline() time.Time
}

// asked is a hold that receives requests to release it.
type asked interface {
	Asked() <-chan etcdlock.ReleaseRequest
}

// supervision has the flags for running a command under a hold.
type supervision struct {
	onLost string        // term, kill or continue
	onAsk  string        // ignore, a signal, or resign if resigns is true
	grace  time.Duration // from SIGTERM to the loss of the hold, and to SIGKILL; 0: a quarter of the TTL
	stop   time.Duration // from SIGTERM to SIGKILL while the hold is kept; 0: without a limit
	maxRun time.Duration // how long the command may run; 0: without a limit

	resigns bool // true: the hold may end when it is asked to
}

const onAskResign = "resign"

func (s *supervision) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.onLost, "on-lost", "term", "what happens to the command before the lock is lost: term (SIGTERM, then SIGKILL "+
		"before another process can hold), kill (SIGKILL only), continue (it runs on without the lock)")
	f.StringVar(&s.onAsk, "on-ask", "ignore", "signal that the command gets when \"etcdlock ask\" asks for a release, such as TERM or USR1")
	durationVar(f, &s.grace, "grace", "", 0, "time between SIGTERM and SIGKILL when the lock is about to be lost, at most half of the TTL "+
		"(default a quarter of the TTL)")
	durationVar(f, &s.stop, "stop-timeout", "", 30*time.Second, "time between SIGTERM and SIGKILL when the command is ended while the lock is kept (0: without a limit)")
}

// addMaxRun adds the flag of a command that may not run for as long as it wants.
func (s *supervision) addMaxRun(f *pflag.FlagSet) {
	durationVar(f, &s.maxRun, "max-run", "", 0, "end the command when it has run for this long, and then release the lock (0: without a limit)")
}

// resignsWhenAsked changes the flag --on-ask to that of a leader.
func (s *supervision) resignsWhenAsked(f *pflag.FlagSet) {
	flag := f.Lookup("on-ask")
	flag.DefValue, s.onAsk, s.resigns = onAskResign, onAskResign, true
	flag.Usage = "what happens when \"etcdlock transfer\", \"step-down\" or \"ask\" asks the leader to resign: resign, ignore, " +
		"or the signal that the command gets, such as USR1"
}

func (s *supervision) check(ttl time.Duration) error {
	switch {
	case s.onLost != "term" && s.onLost != "kill" && s.onLost != "continue":
		return usagef("--on-lost must be term, kill or continue, not %q", s.onLost)
	case s.grace < 0 || s.grace > ttl/2:
		return usagef("--grace %v: it must be at most half of the TTL %v, because a single late renewal would end the command otherwise", s.grace, ttl)
	case s.stop < 0 || s.maxRun < 0:
		return usagef("--stop-timeout and --max-run must not be negative")
	}
	if _, known := child.SignalOf(s.onAsk); !known && s.onAsk != "ignore" && (s.onAsk != onAskResign || !s.resigns) {
		return usagef("--on-ask must be ignore or the name of a signal, not %q", s.onAsk)
	}
	return nil
}

const (
	// look is the time between two reads of the deadline, which is then passed to the guard.
	look = 100 * time.Millisecond
	// killed is the time that a kernel may need to end a process group.
	killed = 200 * time.Millisecond
)

// errOverran is the error of a command that was ended because of --max-run.
var errOverran = errors.New("the command ran for too long, and was ended")

// run runs a command under a hold to its end, and returns its exit code. lost is the reason if the
// end of the hold has ended the command, and nil otherwise. The end of ctx also ends the command,
// without a lost. err is errOverran if the command has reached --max-run. When run returns, no process
// of the command's group is left.
func (s *supervision) run(ctx context.Context, sigs *signals, p *child.Process, h held, ttl time.Duration, env []string) (code int, lost error, err error) {
	sigs.to(p)
	defer sigs.to(nil)
	if ctx.Err() != nil { // a signal came before it could be passed to the command
		p.End()
		return 0, nil, context.Cause(ctx)
	}
	if err := p.Go(env, s.until(h)); err != nil {
		p.End()
		return 0, nil, notRunError{err}
	}
	w := &wake{supervision: s, p: p, h: h, grace: s.grace}
	if w.grace == 0 {
		w.grace = ttl / 4
	}
	if s.onLost == "kill" {
		w.grace = killed
	}
	lost = w.watch(ctx)
	code = p.End()
	interrupted.Store(p.Interrupted())
	// If the guard has ended the command while this process was stopped, only the end of the hold
	// shows it.
	if over := h.Err(); errors.Is(over, etcdlock.ErrLost) && s.onLost != "continue" {
		lost = over
	}
	if w.overran && lost == nil {
		return code, nil, errOverran
	}
	return code, lost, nil
}

// wake supervises a command.
type wake struct {
	*supervision
	p     *child.Process
	h     held
	grace time.Duration

	looked   time.Time // when justWoke was called last
	woke     time.Time // when this process was last found to have been stopped
	told     error     // why the command was asked to end; nil if it was not
	patience time.Time // when the command is killed, unless the hold ends before; zero for no such bound
	overran  bool      // true: the command has reached --max-run
}

// watch returns when the command has ended, or has to be killed at once. lost is the reason if the
// end of the hold ends the command.
func (w *wake) watch(ctx context.Context) (lost error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var asking <-chan etcdlock.ReleaseRequest
	if a, ok := w.h.(asked); ok {
		asking = a.Asked()
	}
	over, stop := w.h.Done(), ctx.Done()
	var limit <-chan time.Time // nil: there is none
	if w.maxRun > 0 {
		limit = time.After(w.maxRun)
	}
	for {
		select {
		case <-w.p.Exited():
			return w.told
		case <-stop:
			stop = nil
			w.end()
		case <-limit:
			fmt.Fprintf(os.Stderr, "etcdlock: the command has run for %v (--max-run): ending it\n", w.maxRun)
			w.overran = true
			w.end()
		case <-over:
			over = nil
			if w.onLost == "continue" {
				fmt.Fprintf(os.Stderr, "etcdlock: %s: the command runs on without the lock\n", trimName(w.h.Err()))
				continue
			}
			// Another process may hold already. The key was deleted or the lease revoked: before a
			// deadline, overdue would have ended the command.
			return w.h.Err()
		case r, ok := <-asking:
			if !ok {
				asking = nil
				continue
			}
			w.hear(r)
		case <-tick.C:
			if w.overdue(over == nil) {
				return w.told
			}
		}
	}
}

// end asks the command to end while the hold is kept. No other process can hold meanwhile, so the
// command has more time than before a loss.
func (w *wake) end() {
	w.p.Signal(syscall.SIGTERM)
	if w.stop > 0 && w.patience.IsZero() {
		w.patience = time.Now().Add(w.stop)
	}
}

// overdue reads the clock, and reports whether the command has to be killed.
func (w *wake) overdue(over bool) bool {
	if !w.patience.IsZero() && time.Now().After(w.patience) {
		return true
	}
	if over || w.onLost == "continue" {
		return false
	}
	deadline := w.h.Deadline()
	if deadline.IsZero() {
		return true // this process was stopped, or Done is about to be closed
	}
	w.p.Extend(w.until(w.h))
	left := time.Until(deadline)
	if w.justWoke() && left > 2*killed {
		return false
	}
	if left < w.grace && w.told == nil {
		w.told = fmt.Errorf("%w: etcd did not answer until %v before the deadline", etcdlock.ErrLost, left.Round(10*time.Millisecond))
		fmt.Fprintf(os.Stderr, "etcdlock: etcd does not answer, and the lock ends in %v: ending the command\n", left.Round(time.Millisecond))
		if w.onLost == "term" {
			w.p.Signal(syscall.SIGTERM)
		}
	}
	return w.told != nil && left < killed
}

// justWoke reports whether this process was stopped until a moment ago, as after ^Z. The renewal that
// was due meanwhile is then on its way, so the missing answer does not mean that etcd is silent.
func (w *wake) justWoke() bool {
	now := time.Now()
	if !w.looked.IsZero() && now.Sub(w.looked) > 5*look {
		w.woke = now
	}
	w.looked = now
	return now.Sub(w.woke) < 2*look
}

// hear prints a request to release, and sends the signal of --on-ask.
func (w *wake) hear(r etcdlock.ReleaseRequest) {
	fmt.Fprintf(os.Stderr, "etcdlock: %s: asked to release by %s\n", wire.Quote(r.Name), asker(r.Owner, r.Host, r.PID, r.Reason))
	if sig, ok := child.SignalOf(w.onAsk); ok {
		w.p.Signal(sig)
	}
}

// asker describes the session of a request to release, and its reason. Each part may be missing.
func asker(owner, host string, pid int, reason string) string {
	text := "an unnamed process"
	if owner != "" {
		text = printable(owner)
	}
	if host != "" {
		text += fmt.Sprintf(" (%s, pid %d)", printable(host), pid)
	}
	if reason != "" {
		text += ": " + printable(reason)
	}
	return text
}

// until is when the guard ends the command, by the clock that the guard shares with this process.
func (s *supervision) until(h held) time.Duration {
	if s.onLost == "continue" {
		return child.Now() + 365*24*time.Hour
	}
	deadline := h.Deadline()
	if deadline.IsZero() {
		return child.Now() // the hold has ended
	}
	return child.Now() + time.Until(deadline) - killed/2
}

// environment is the part of the command's environment that describes its hold.
func environment(h held, name, key string) []string {
	return []string{
		"ETCDLOCK_NAME=" + name,
		"ETCDLOCK_KEY=" + key,
		"ETCDLOCK_TOKEN=" + strconv.FormatInt(h.Token(), 10),
		"ETCDLOCK_DEADLINE=" + h.Deadline().UTC().Format(time.RFC3339Nano),
		heldWithin(h),
	}
}
