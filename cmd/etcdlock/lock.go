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

// lockFlags are those of the lock command.
type lockFlags struct {
	supervision
	sessionFlags
	timeout  time.Duration
	try      bool
	shared   bool
	verbose  bool
	permits  string // n/limit
	conflict int    // exit code; -1: exitBusy or exitTimedOut
}

// sessionFlags are those of the commands that hold something.
type sessionFlags struct {
	ttl   time.Duration
	delay time.Duration
	owner string
}

func (f *sessionFlags) addFlags(fl *pflag.FlagSet) {
	durationVar(fl, &f.ttl, "ttl", "", etcdlock.DefaultTTL, "how long etcd keeps it for a holder who has crashed, in whole seconds")
	durationVar(fl, &f.delay, "lock-delay", "", 0, "how much longer nobody else gets it after a holder has crashed")
	fl.StringVar(&f.owner, "owner", "", "who holds, as others see it (default the command's name)")
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
		Long: `Waits in line for the lock, runs the command while holding it, and releases it when the
command has ended, with the command's exit code. With several names all of them are held at
once. The command gets ETCDLOCK_NAME, ETCDLOCK_KEY, ETCDLOCK_TOKEN (the fencing token) and
ETCDLOCK_DEADLINE (as it was at the start) in its environment, and the signals that are sent
to etcdlock.

The command does not outlive the lock: when etcd does not answer renewals it gets SIGTERM, and
its whole process group SIGKILL before anybody else can hold the lock. A second process sees to
that when etcdlock itself is killed or stopped. What the command leaves behind in its process
group is killed before the lock is released; what leaves the group (setsid) is not followed.

` + exitCodes(true),
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
	f.supervision.addFlags(fl)
	f.sessionFlags.addFlags(fl)
	fl.BoolVarP(&f.try, "try", "n", false, "do not wait in line")
	durationVar(fl, &f.timeout, "timeout", "w", 0, "how long to wait for the lock, and for etcd to answer "+
		"(0: for the lock as long as it takes, for etcd --command-timeout)")
	fl.BoolVarP(&f.shared, "shared", "s", false, "hold the lock beside others who do so with --shared")
	fl.StringVar(&f.permits, "permits", "", "hold N of LIMIT permits of a semaphore, as N/LIMIT")
	fl.IntVarP(&f.conflict, "conflict-exit-code", "E", -1, "exit code when --try or --timeout did not get it, if not 100 and 101")
	addVerbose(fl, &f.verbose)
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
	if err := c.checkNames(names...); err != nil {
		return err
	}
	if err := f.check(f.ttl); err != nil {
		return err
	}
	if len(names) > 1 && (f.shared || f.permits != "") {
		return usagef("--shared and --permits are for a single name")
	}
	if f.permits != "" {
		if _, _, err := parsePermits(f.permits); err != nil {
			return err // before there is anything in etcd
		}
	}
	if f.conflict < -1 || f.conflict > 255 {
		return usagef("--conflict-exit-code %d: an exit code is 0 to 255", f.conflict)
	}
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	p, err := child.Prepare(command)
	if err != nil {
		return notRunError{err}
	}
	end := func() {}
	defer func() {
		p.End() // before anybody else can hold
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
	case err != nil:
		return err
	case lost != nil:
		return fmt.Errorf("%s: %w", quotedNames(names), lost)
	default:
		return exitError(code)
	}
}

// wait waits in line, and lines up again when it has lost its place with its lease. The timeout
// counts from when it began to look for etcd.
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
			fmt.Fprintf(os.Stderr, "etcdlock: %s: lining up again\n", trimName(err))
		default:
			return nil, "", withHint(err)
		}
	}
}

// notInTime is the error of a wait whose time is over: for the lock, or for etcd.
func notInTime(s *etcdlock.Session, err error, names []string, timeout time.Duration) error {
	if s.State() != etcdlock.StateConnected {
		return unreachable{fmt.Errorf("%s: etcd did not answer within %v (--timeout)", quotedNames(names), timeout)}
	}
	text := fmt.Sprintf("%s: not granted within %v (--timeout)", quotedNames(names), timeout)
	var locked *etcdlock.LockedError
	if errors.As(err, &locked) {
		text += ": " + locked.Error()
	}
	if waitsForItself(err) {
		text += ": " + nestedHint
	}
	return timedOutError{errors.New(text)}
}

// acquire waits for what the flags say.
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
		return 0, 0, usagef("--permits %q: say how many of how many, as 1/10", s)
	}
	return n, limit, nil
}
