package main

import (
	"context"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
)

// lockFlags are those of the lock command.
type lockFlags struct {
	supervision
	ttl     time.Duration
	timeout time.Duration
	try     bool
	shared  bool
	permits string // n or n/limit
	owner   string
}

func newLock(c *connection) *cobra.Command {
	f := &lockFlags{}
	cmd := &cobra.Command{
		Use:   "lock NAME... -- COMMAND [ARGUMENT...]",
		Short: "Run a command while holding a lock",
		Long: `Waits in line for the lock, runs the command while holding it, and releases it when the
command has ended, with the command's exit code. With several names all of them are held at
once. The command gets ETCDLOCK_NAME, ETCDLOCK_KEY, ETCDLOCK_TOKEN (the fencing token) and
ETCDLOCK_DEADLINE in its environment, and the signals that are sent to etcdlock.

The command never outlives the lock: when etcd does not answer renewals it gets SIGTERM, and
its whole process group SIGKILL before anybody else can hold the lock. A second process sees to
that when etcdlock itself is killed or stopped.`,
		Example: `  etcdlock lock backup -- ./backup.sh
  etcdlock lock --try reports/daily -- ./report --date today
  etcdlock lock --timeout 30s accounts/7 accounts/9 -- ./transfer 7 9
  etcdlock lock --permits 2/10 render -- ./render scene.blend`,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, command, err := split(cmd, args)
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), c, names, command)
		},
	}
	fl := cmd.Flags()
	f.addFlags(fl)
	fl.DurationVar(&f.ttl, "ttl", etcdlock.DefaultTTL, "how long etcd keeps the lock after the last renewal")
	fl.DurationVar(&f.timeout, "timeout", 0, "how long to wait in line (0: for as long as it takes)")
	fl.BoolVar(&f.try, "try", false, "do not wait in line")
	fl.BoolVar(&f.shared, "shared", false, "hold the lock beside others who do so with --shared")
	fl.StringVar(&f.permits, "permits", "", "hold N of LIMIT permits of a semaphore, as N/LIMIT")
	fl.StringVar(&f.owner, "owner", "", "who holds, as others see it (default the command's name)")
	cmd.MarkFlagsMutuallyExclusive("try", "timeout")
	cmd.MarkFlagsMutuallyExclusive("shared", "permits")
	return cmd
}

// split parts the names from the command behind the two dashes.
func split(cmd *cobra.Command, args []string) (names, command []string, err error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash < 0 || dash == len(args):
		return nil, nil, usagef("say what to run behind two dashes: %s", cmd.UseLine())
	case dash == 0:
		return nil, nil, usagef("say a name: %s", cmd.UseLine())
	}
	return args[:dash], args[dash:], nil
}

func (f *lockFlags) run(ctx context.Context, c *connection, names, command []string) error {
	if err := f.check(f.ttl); err != nil {
		return err
	}
	if len(names) > 1 && (f.shared || f.permits != "") {
		return usagef("--shared and --permits are for a single name")
	}
	owner := f.owner
	if owner == "" {
		owner = command[0]
	}
	// Until the command runs, a signal ends the wait; then it is the command's.
	waiting, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s, end, err := c.session(waiting, etcdlock.WithTTL(f.ttl), etcdlock.WithOwner(owner))
	if err != nil {
		return err
	}
	defer end()
	h, key, err := f.acquire(waiting, s, names)
	if err != nil {
		return err
	}
	stop()
	code, lost, err := f.supervision.run(ctx, h, s.TTL(), command, environment(h, strings.Join(names, " "), key))
	switch {
	case err != nil:
		return err
	case lost != nil:
		return fmt.Errorf("%w: %s: %w", etcdlock.ErrLost, strings.Join(names, ", "), lost)
	default:
		return exitCode(code)
	}
}

// acquire waits for what the flags say.
func (f *lockFlags) acquire(ctx context.Context, s *etcdlock.Session, names []string) (held, string, error) {
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	switch {
	case len(names) > 1:
		set, err := pick(f.try, etcdlock.TryLockAll, etcdlock.LockAll)(ctx, s, names...)
		if err != nil {
			return nil, "", err
		}
		return set, strings.Join(set.Keys(), " "), nil
	case f.shared:
		m := etcdlock.NewRWMutex(s, names[0])
		l, err := pick(f.try, m.TryRLock, m.RLock)(ctx)
		if err != nil {
			return nil, "", err
		}
		return l, l.Key(), nil
	case f.permits != "":
		var n, limit int
		if _, err := fmt.Sscanf(f.permits, "%d/%d", &n, &limit); err != nil {
			return nil, "", usagef("--permits %q: say how many of how many, as 1/10", f.permits)
		}
		m := etcdlock.NewSemaphore(s, names[0], limit)
		p, err := pick(f.try, m.TryAcquire, m.Acquire)(ctx, n)
		if err != nil {
			return nil, "", err
		}
		return p, p.Key(), nil
	default:
		m := etcdlock.NewMutex(s, names[0])
		l, err := pick(f.try, m.TryLock, m.Lock)(ctx)
		if err != nil {
			return nil, "", err
		}
		return l, l.Key(), nil
	}
}

func pick[F any](try bool, yes, no F) F {
	if try {
		return yes
	}
	return no
}
