package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// held is what a command runs under: a lock, a set of them, permits or a term.
type held interface {
	Done() <-chan struct{}
	Err() error
	Token() int64
	Deadline() time.Time
}

// asked is a hold that hears when others ask for it.
type asked interface {
	Asked() <-chan etcdlock.ReleaseRequest
}

// supervision is how a command is run under a hold.
type supervision struct {
	onLost string        // term, kill or continue
	onAsk  string        // ignore or a signal
	grace  time.Duration // between SIGTERM and SIGKILL; 0: a quarter of the TTL
}

func (s *supervision) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.onLost, "on-lost", "term", "what happens to the command when the hold is about to be lost: "+
		"term (SIGTERM, then SIGKILL before anybody else can hold), kill (SIGKILL alone), continue (it runs on, unprotected)")
	f.StringVar(&s.onAsk, "on-ask", "ignore", "the signal that the command gets when somebody asks for the hold (etcdlock ask), as TERM or USR1")
	durationVar(f, &s.grace, "grace", "", 0, "time between SIGTERM and SIGKILL, at most half of the TTL (default a quarter of it)")
}

func (s *supervision) check(ttl time.Duration) error {
	switch {
	case s.onLost != "term" && s.onLost != "kill" && s.onLost != "continue":
		return usagef("--on-lost is term, kill or continue, and not %q", s.onLost)
	case s.grace < 0 || s.grace > ttl/2:
		return usagef("--grace %v: at most half of the TTL %v, as a single late renewal would end the command otherwise", s.grace, ttl)
	}
	if _, known := child.SignalOf(s.onAsk); !known && s.onAsk != "ignore" {
		return usagef("--on-ask is ignore or the name of a signal, and not %q", s.onAsk)
	}
	return nil
}

const (
	// look is how often the deadline is looked at, and told to the guard.
	look = 100 * time.Millisecond
	// killed is what a kernel may take to end a process group.
	killed = 200 * time.Millisecond
)

// run lets a command run under a hold to its end, and returns its exit code; lost is why it
// had to be ended before, nil if it was not. ctx ending is a reason to end it as well, and
// none that is told. When run returns nothing of the command is left.
func (s *supervision) run(ctx context.Context, sigs *signals, p *child.Process, h held, ttl time.Duration, env []string) (code int, lost error, err error) {
	sigs.to(p)
	defer sigs.to(nil)
	if ctx.Err() != nil { // a signal came before it could be passed on
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
	// A command that was ended by the guard, while this process stood still, has nothing
	// else to show for it than that the hold is over.
	if over := h.Err(); errors.Is(over, etcdlock.ErrLost) && s.onLost != "continue" {
		lost = over
	}
	return code, lost, nil
}

// wake watches over a command.
type wake struct {
	*supervision
	p     *child.Process
	h     held
	grace time.Duration

	looked   time.Time // when the clock was looked at last
	woke     time.Time // when this process was last found to have stood still
	told     error     // why it was asked to come to an end, nil if it was not
	patience time.Time // until when, unless the hold ends before; zero: no other bound
}

// watch returns when the command has ended, or has to be killed at once; lost is why it had
// to end, if that is the hold's end.
func (w *wake) watch(ctx context.Context) (lost error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	var asking <-chan etcdlock.ReleaseRequest
	if a, ok := w.h.(asked); ok {
		asking = a.Asked()
	}
	over, stop := w.h.Done(), ctx.Done()
	for {
		select {
		case <-w.p.Exited():
			return w.told
		case <-stop:
			stop = nil
			w.p.Signal(syscall.SIGTERM)
			w.patience = time.Now().Add(w.grace)
		case <-over:
			over = nil
			if w.onLost == "continue" {
				fmt.Fprintf(os.Stderr, "etcdlock: %s: the command runs on, unprotected\n", trimName(w.h.Err()))
				continue
			}
			// Somebody else may hold by now: deleted or revoked, as before the deadline it
			// would have been ended.
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

// overdue looks at the clock, and tells whether the command has to be killed.
func (w *wake) overdue(over bool) bool {
	if !w.patience.IsZero() && time.Now().After(w.patience) {
		return true
	}
	if over || w.onLost == "continue" {
		return false
	}
	deadline := w.h.Deadline()
	if deadline.IsZero() {
		return true // this process stood still, or Done will tell in a moment
	}
	w.p.Extend(w.until(w.h))
	left := time.Until(deadline)
	if w.justWoke() && left > 2*killed {
		return false
	}
	if left < w.grace && w.told == nil {
		w.told = fmt.Errorf("%w: etcd did not answer until %v before the deadline", etcdlock.ErrLost, left.Round(10*time.Millisecond))
		fmt.Fprintf(os.Stderr, "etcdlock: etcd does not answer, and the hold ends in %v: ending the command\n", left.Round(time.Millisecond))
		if w.onLost == "term" {
			w.p.Signal(syscall.SIGTERM)
		}
	}
	return w.told != nil && left < killed
}

// justWoke tells whether this process stood still until a moment ago, as after ^Z. Then the renewal
// that was due meanwhile is on its way, and that it was not answered says nothing of etcd.
func (w *wake) justWoke() bool {
	now := time.Now()
	if !w.looked.IsZero() && now.Sub(w.looked) > 5*look {
		w.woke = now
	}
	w.looked = now
	return now.Sub(w.woke) < 2*look
}

// hear does what is to be done when somebody asks for the hold.
func (w *wake) hear(r etcdlock.ReleaseRequest) {
	fmt.Fprintf(os.Stderr, "etcdlock: %s\n", strings.TrimSuffix(fmt.Sprintf("%s (%s, pid %d) asks for it: %s", r.Owner, r.Host, r.PID, r.Reason), ": "))
	if sig, ok := child.SignalOf(w.onAsk); ok {
		w.p.Signal(sig)
	}
}

// until is when the guard ends the command, by the clock that it shares with this process.
func (s *supervision) until(h held) time.Duration {
	if s.onLost == "continue" {
		return child.Now() + 365*24*time.Hour
	}
	deadline := h.Deadline()
	if deadline.IsZero() {
		return child.Now() // it is over
	}
	return child.Now() + time.Until(deadline) - killed/2
}

// environment tells the command what it runs under.
func environment(h held, name, key string) []string {
	return []string{
		"ETCDLOCK_NAME=" + name,
		"ETCDLOCK_KEY=" + key,
		"ETCDLOCK_TOKEN=" + strconv.FormatInt(h.Token(), 10),
		"ETCDLOCK_DEADLINE=" + h.Deadline().UTC().Format(time.RFC3339Nano),
		heldWithin(h),
	}
}
