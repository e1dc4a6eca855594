package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// switchover is a request to the leader of an election: to transfer the leadership, or to resign.
type switchover struct {
	to, reason, owner string
	timeout           time.Duration
}

const switchoverCodes = `The exit code is:
    1  nobody leads, or the candidate does not wait, or another candidate leads next
    2  wrong flags or arguments
  101  the leader has not resigned within --timeout; it may resign later
  103  etcd does not answer, or refuses
  104  the leader does not honour requests; nothing was done`

func newTransfer(c *connection) *cobra.Command {
	f := &switchover{}
	cmd := &cobra.Command{
		Use:                   "transfer NAME --to CANDIDATE",
		DisableFlagsInUseLine: true,
		Short:                 "Ask the leader to hand over to a candidate, and wait until it has",
		Long: `Asks the leader of an election to hand over to a waiting candidate, and waits until it has.

The work of the leader ends first, so no two leaders work at the same time. The candidate then leads
next, whatever the priorities. "etcdlock show" prints the candidates: --to is the OWNER there, which
"etcdlock elect" has from --id.

Leaders of "etcdlock elect" honour the request, and programs with WithResignOnRequest for their
Run. They announce it in etcd. A request to any other leader is refused, and nothing is done.

` + switchoverCodes,
		Example: `  etcdlock transfer scheduler --to host-b:8080
  etcdlock transfer scheduler --to host-b:8080 --reason "new kernel" --timeout 5m`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.to == "" {
				return usagef("give the candidate with --to, or use etcdlock step-down: %s", cmd.UseLine())
			}
			return f.run(cmd.Context(), c, args[0])
		},
	}
	cmd.Flags().StringVar(&f.to, "to", "", "value of the candidate that is to lead next")
	f.addFlags(cmd)
	return cmd
}

func newStepDown(c *connection) *cobra.Command {
	f := &switchover{}
	cmd := &cobra.Command{
		Use:                   "step-down NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Ask the leader to resign, and wait until it has",
		Long: `Asks the leader of an election to resign, and waits until it has.

The work of the leader ends first. The next candidate then leads: the one of the highest priority,
or the oldest. The old leader campaigns again after a second. A leader with a higher priority and a
takeover then soon leads again. To prevent this, use "etcdlock transfer".

The command refuses if no other candidate waits, or if the leader does not honour requests, see
"etcdlock transfer --help".

` + switchoverCodes,
		Example: `  etcdlock step-down scheduler --reason maintenance
  etcdlock step-down scheduler --timeout 30s || etcdlock show scheduler`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), c, args[0]) },
	}
	f.addFlags(cmd)
	return cmd
}

func (f *switchover) addFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.reason, "reason", "", "reason that the leader is shown")
	fl.StringVar(&f.owner, "owner", "", "name of the asker that the leader is shown (default $USER)")
	durationVar(fl, &f.timeout, "timeout", "w", time.Minute, "how long to wait for the leader (0: without a limit)")
}

func (f *switchover) run(ctx context.Context, c *connection, name string) error {
	if err := c.checkNames(name); err != nil {
		return err
	}
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	if f.owner == "" {
		f.owner = os.Getenv("USER")
	}
	s, end, err := c.session(ctx, etcdlock.WithOwner(f.owner))
	if err != nil {
		return orSignal(ctx, err)
	}
	defer end()
	bounded, cancel := ctx, context.CancelFunc(func() {})
	if f.timeout > 0 {
		bounded, cancel = context.WithTimeout(ctx, f.timeout)
	}
	defer cancel()
	e, began := etcdlock.NewElection(s, name), time.Now()
	if f.to != "" {
		err = e.AskToTransfer(bounded, text.FromArg(f.to), f.reason)
	} else {
		err = e.AskToResign(bounded, f.reason)
	}
	switch {
	case err == nil:
		return f.done(name, time.Since(began))
	case errors.Is(err, etcdlock.ErrNotHonoured):
		return coded{fmt.Errorf("%w: nothing was done. Stop its process, and it resigns; or as a last resort run etcdlock evict %s", err, text.Named(name)), exitNotHonoured}
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return timedOutError{fmt.Errorf("the leader of %s has not resigned after %v (--timeout): its work may still be stopping, and it may resign later; see etcdlock show %s",
			wire.Quote(name), f.timeout, text.Named(name))}
	}
	return orSignal(ctx, leaseLost(err))
}

func (f *switchover) done(name string, took time.Duration) error {
	if f.to != "" {
		fmt.Fprintf(os.Stderr, "etcdlock: the leader of %s has handed over to %s, after %v\n", wire.Quote(name), wire.Quote(f.to), took.Round(time.Millisecond))
	} else {
		fmt.Fprintf(os.Stderr, "etcdlock: the leader of %s has resigned, after %v\n", wire.Quote(name), took.Round(time.Millisecond))
	}
	return nil
}
