package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// held is what a command runs under: a lock, a set of them, permits or a term.
type held interface {
	Done() <-chan struct{}
	Err() error
	Token() int64
	Deadline() time.Time
}

// supervision is how a command is run under a hold.
type supervision struct {
	onLost string        // term, kill or continue
	grace  time.Duration // between SIGTERM and SIGKILL; 0: a quarter of the TTL
}

func (s *supervision) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.onLost, "on-lost", "term", "what happens to the command when the hold is about to be lost: "+
		"term (SIGTERM, then SIGKILL before anybody else can hold), kill (SIGKILL at once), continue (it runs on, unprotected)")
	f.DurationVar(&s.grace, "grace", 0, "time between SIGTERM and SIGKILL (default a quarter of the TTL)")
}

func (s *supervision) check(ttl time.Duration) error {
	switch {
	case s.onLost != "term" && s.onLost != "kill" && s.onLost != "continue":
		return usagef("--on-lost is term, kill or continue, and not %q", s.onLost)
	case s.grace < 0 || s.grace > ttl/2:
		return usagef("--grace %v: at most half of the TTL %v, as a single late renewal would end the command otherwise", s.grace, ttl)
	}
	return nil
}

const (
	// look is how often the deadline is looked at, and told to the guard.
	look = 100 * time.Millisecond
	// killed is what a kernel may take to end a process group.
	killed = 200 * time.Millisecond
)

// forwarded are the signals that are for the command.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// run runs a command under a hold to its end, and returns its exit code; lost is why it had
// to be ended before, nil if it was not. When run returns nothing of the command is left.
func (s *supervision) run(ctx context.Context, h held, ttl time.Duration, args, env []string) (code int, lost error, err error) {
	signals := make(chan os.Signal, len(forwarded))
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)

	grace := s.grace
	if grace == 0 {
		grace = ttl / 4
	}
	p, err := child.Start(args, env, s.until(h))
	if err != nil {
		return 0, nil, notRun{fmt.Errorf("run %q: %w", args[0], err)}
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	var (
		told bool // that it has to come to its end
		over = h.Done()
		stop = ctx.Done()
	)
	tell := func(why string) {
		if !told {
			told = true
			fmt.Fprintf(os.Stderr, "etcdlock: %s: ending the command\n", why)
			if s.onLost == "term" {
				p.Signal(syscall.SIGTERM)
			}
		}
	}
	for {
		select {
		case <-p.Exited():
			if told {
				return p.End(), h.Err(), nil
			}
			return p.End(), nil, nil
		case sig := <-signals:
			p.Signal(sig.(syscall.Signal))
		case <-stop:
			stop = nil
			p.Signal(syscall.SIGTERM)
		case <-over:
			over = nil
			lost = h.Err()
			if s.onLost == "continue" {
				fmt.Fprintf(os.Stderr, "etcdlock: %v: the command runs on, unprotected\n", lost)
				continue
			}
			// Somebody else may hold by now, unless it was the deadline.
			tell(lost.Error())
			return p.End(), lost, nil
		case <-tick.C:
			left := time.Until(h.Deadline())
			if over == nil || s.onLost == "continue" {
				continue
			}
			p.Extend(s.until(h))
			if left < grace {
				tell(fmt.Sprintf("etcd does not answer, and the hold ends in %v", left.Round(time.Millisecond)))
			}
			if told && (left < killed || s.onLost == "kill") {
				return p.End(), errAboutToEnd, nil
			}
		}
	}
}

var errAboutToEnd = fmt.Errorf("etcd did not answer until shortly before the deadline")

// until is when the guard ends the command, by the clock that it shares with this process.
func (s *supervision) until(h held) time.Duration {
	if s.onLost == "continue" {
		return child.Now() + 365*24*time.Hour
	}
	return child.Now() + time.Until(h.Deadline()) - killed/2
}

// environment tells the command what it runs under.
func environment(h held, name, key string) []string {
	return []string{
		"ETCDLOCK_NAME=" + name,
		"ETCDLOCK_KEY=" + key,
		"ETCDLOCK_TOKEN=" + strconv.FormatInt(h.Token(), 10),
		"ETCDLOCK_DEADLINE=" + h.Deadline().UTC().Format(time.RFC3339Nano),
	}
}
