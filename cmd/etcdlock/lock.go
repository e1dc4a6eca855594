package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// lockFlags are the flags of the lock command.
type lockFlags struct {
	supervision
	sessionFlags
	timeout  time.Duration
	try      bool
	shared   bool
	verbose  bool
	permits  string // N/LIMIT
	conflict int    // exit code when the lock is not acquired; -1 for exitBusy or exitTimedOut
}

// sessionFlags are the flags of the commands that hold a lock or lead.
type sessionFlags struct {
	ttl   time.Duration
	delay time.Duration
	owner string
}

func (f *sessionFlags) addFlags(fl *pflag.FlagSet) {
	durationVar(fl, &f.ttl, "ttl", "", etcdlock.DefaultTTL, "time after which etcd removes a holder that has crashed, in whole seconds")
	durationVar(fl, &f.delay, "lock-delay", "", 0, "additional time for which a crashed holder keeps others out")
	fl.StringVar(&f.owner, "owner", "", "name of the holder that others see (default the command's name)")
}

func (f *sessionFlags) options(command []string) []etcdlock.SessionOption {
	owner := f.owner
	if owner == "" {
		owner = filepath.Base(command[0])
	}
	return []etcdlock.SessionOption{etcdlock.WithTTL(f.ttl), etcdlock.WithLockDelay(f.delay), etcdlock.WithOwner(owner)}
}

func newLock(c *connection) *cobra.Command {
	f := &lockFlags{}
	cmd := &cobra.Command{
		Use:                   "lock NAME... -- COMMAND [ARGUMENT...]",
		DisableFlagsInUseLine: true,
		Short:                 "Run a command while holding a lock",
		Long: `Waits for the lock, runs the command while holding it, and releases it when the command has
ended. The exit code is that of the command. If several names are given, it holds all of them at
once.

The command gets ETCDLOCK_NAME, ETCDLOCK_KEY, ETCDLOCK_TOKEN (the fencing token) and
ETCDLOCK_DEADLINE (the deadline at the start) in its environment. Signals to etcdlock go to the
command.

The command does not outlive the lock. If etcd does not answer renewals, the command gets SIGTERM,
and its whole process group gets SIGKILL before another process can acquire the lock. A second
process, the guard, does this if etcdlock itself is killed or stopped. Processes that the command
leaves in its process group are killed before the lock is released. A process that leaves the
group (setsid) is not followed.

With --max-run a command that hangs does not hold forever. It gets SIGTERM, after --stop-timeout
its process group gets SIGKILL, and then the lock is released.

` + exitCodes(true),
		Example: `  etcdlock lock backup -- ./backup.sh
  etcdlock lock --try reports/daily -- ./report --date today
  etcdlock lock --timeout 30s accounts/7 accounts/9 -- ./transfer 7 9
  etcdlock lock --permits 2/10 render -- ./render scene.blend
  etcdlock lock --max-run 1h jobs/nightly -- ./nightly`,
		RunE: func(cmd *cobra.Command, args []string) error {
			names, command, err := split(cmd, args)
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), c, names, command)
		},
	}
	fl := cmd.Flags()
	f.supervision.addFlags(fl)
	f.addMaxRun(fl)
	f.sessionFlags.addFlags(fl)
	fl.BoolVarP(&f.try, "try", "n", false, "do not wait if the lock is taken")
	durationVar(fl, &f.timeout, "timeout", "w", 0, "how long to wait for the lock, and for etcd to answer "+
		"(0: without a limit for the lock, --command-timeout for etcd)")
	fl.BoolVarP(&f.shared, "shared", "s", false, "hold the lock together with other holders that use --shared")
	fl.StringVar(&f.permits, "permits", "", "hold N of LIMIT permits of a semaphore, as N/LIMIT")
	fl.IntVarP(&f.conflict, "conflict-exit-code", "E", -1, "exit code, instead of 100 and 101, when --try or --timeout did not acquire the lock")
	addVerbose(fl, &f.verbose)
	cmd.MarkFlagsMutuallyExclusive("try", "timeout")
	cmd.MarkFlagsMutuallyExclusive("shared", "permits")
	return cmd
}

// split separates the names from the command, which follows two dashes.
func split(cmd *cobra.Command, args []string) (names, command []string, err error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash < 0 || dash == len(args):
		return nil, nil, usagef("give the command to run after two dashes: %s", cmd.UseLine())
	case dash == 0:
		return nil, nil, usagef("give a name before the two dashes: %s", cmd.UseLine())
	}
	return args[:dash], args[dash:], nil
}

func (f *lockFlags) run(ctx context.Context, c *connection, names, command []string) error {
	if err := c.checkNames(names...); err != nil {
		return err
	}
	if err := f.check(f.ttl); err != nil {
		return err
	}
	if len(names) > 1 && (f.shared || f.permits != "") {
		return usagef("--shared and --permits take a single name")
	}
	if f.permits != "" {
		if _, _, err := parsePermits(f.permits); err != nil {
			return err // before any request to etcd
		}
	}
	if f.conflict < -1 || f.conflict > 255 {
		return usagef("--conflict-exit-code %d: an exit code must be 0 to 255", f.conflict)
	}
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	p, err := child.Prepare(command)
	if err != nil {
		return notRunError{err}
	}
	end := func() {}
	defer func() {
		p.End() // before the session releases the lock
		end()
	}()
	began := time.Now()
	s, client, closeSession, err := c.open(ctx, f.timeout, f.options(command)...)
	if err != nil {
		return orSignal(ctx, err)
	}
	end = closeSession
	stop := narrate(ctx, &narrator{client: client, session: s, names: names, verbose: f.verbose})
	noter := &noter{client: client, session: s, names: names, since: began}
	h, key, err := f.wait(ctx, began, s, names)
	stop()
	if err == nil {
		noter.granted(ctx, h)
	}
	switch {
	case f.conflict >= 0 && (errors.Is(err, etcdlock.ErrLocked) || isA[timedOutError](err)):
		return coded{err, f.conflict}
	case err != nil:
		return orSignal(ctx, err)
	}
	code, lost, err := f.supervision.run(ctx, sigs, p, h, s.TTL(), environment(h, strings.Join(names, " "), key))
	switch {
	case errors.Is(err, errOverran):
		return coded{fmt.Errorf("%s: %w, after %v (--max-run)", quotedNames(names), err, f.maxRun), exitOverran}
	case err != nil:
		return err
	case lost != nil:
		return fmt.Errorf("%s: %w", quotedNames(names), lost)
	default:
		return exitError(code)
	}
}

// wait waits for the lock. If the lease is lost, and with it the place in the queue, it enters the
// queue again. The timeout counts from began, when the search for etcd began.
func (f *lockFlags) wait(ctx context.Context, began time.Time, s *etcdlock.Session, names []string) (held, string, error) {
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if f.timeout > 0 {
		bounded, cancel = context.WithDeadline(ctx, began.Add(f.timeout))
	}
	defer cancel()
	for {
		h, key, err := f.acquire(bounded, s, names)
		switch {
		case err == nil:
			return h, key, nil
		case ctx.Err() == nil && bounded.Err() != nil:
			return nil, "", notInTime(s, err, names, f.timeout)
		case errors.Is(err, etcdlock.ErrLost) && !errors.Is(err, etcdlock.ErrSessionClosed) && !f.try:
			fmt.Fprintf(os.Stderr, "etcdlock: %s: entering the queue again\n", trimName(err))
		default:
			return nil, "", withHint(err)
		}
	}
}

// notInTime is the error of a wait for the lock, or for etcd, that has reached --timeout.
func notInTime(s *etcdlock.Session, err error, names []string, timeout time.Duration) error {
	if s.State() != etcdlock.StateConnected {
		return unreachable{fmt.Errorf("%s: etcd did not answer within %v (--timeout)", quotedNames(names), timeout)}
	}
	text := fmt.Sprintf("%s: not acquired within %v (--timeout)", quotedNames(names), timeout)
	var locked *etcdlock.LockedError
	if errors.As(err, &locked) {
		text += ": " + locked.Error()
	}
	if waitsForItself(err) {
		text += ": " + nestedHint
	}
	return timedOutError{errors.New(text)}
}

// acquire acquires the primitive that the flags select.
func (f *lockFlags) acquire(ctx context.Context, s *etcdlock.Session, names []string) (held, string, error) {
	switch {
	case len(names) > 1:
		m := etcdlock.NewMultiMutex(s, names)
		set, err := pick(f.try, m.TryLock, m.Lock)(ctx)
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
		n, limit, err := parsePermits(f.permits)
		if err != nil {
			return nil, "", err
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

// parsePermits reads "2/10".
func parsePermits(s string) (n, limit int, err error) {
	of, most, both := strings.Cut(s, "/")
	n, errN := strconv.Atoi(of)
	limit, errLimit := strconv.Atoi(most)
	if !both || errN != nil || errLimit != nil {
		return 0, 0, usagef("--permits %q: give the number of permits and the limit, such as 1/10", s)
	}
	return n, limit, nil
}
