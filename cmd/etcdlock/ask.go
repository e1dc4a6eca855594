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

func newAsk(c *connection) *cobra.Command {
	var (
		reason, owner string
		timeout       time.Duration
	)
	cmd := &cobra.Command{
		Use:                   "ask NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Ask the holders of a name to release it, and wait until they have",
		Long: `Asks all present holders of a name to release it, and waits until they have.

A holder decides itself whether it releases. "etcdlock lock" prints the request on its standard
error, and with --on-ask it sends its command a signal. Programs receive the request from the
method Asked of a hold, if they listen. No holder is evicted. Another process may acquire the
lock afterwards.

The exit code is 101 if a holder has not released within --timeout. "etcdlock lock --help" lists
the others.`,
		Example: `  etcdlock ask --reason deploying --timeout 1m jobs/nightly
  etcdlock ask --timeout 1m jobs/nightly || etcdlock evict jobs/nightly`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, sigs := catchSignals(cmd.Context())
			defer sigs.stop()
			if owner == "" {
				owner = os.Getenv("USER")
			}
			if err := c.checkNames(args[0]); err != nil {
				return err
			}
			began := time.Now()
			s, _, end, err := c.open(ctx, timeout, etcdlock.WithOwner(owner))
			if err != nil {
				return orSignal(ctx, err)
			}
			defer end()
			bounded, cancel := ctx, context.CancelFunc(func() {})
			if timeout > 0 {
				bounded, cancel = context.WithDeadline(ctx, began.Add(timeout))
			}
			defer cancel()
			err = s.Ask(bounded, args[0], reason)
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				return timedOutError{fmt.Errorf("%s is still held after %v (--timeout): see etcdlock show %s", wire.Quote(args[0]), timeout, text.Named(args[0]))}
			}
			return orSignal(ctx, leaseLost(err))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&reason, "reason", "", "reason that the holder is shown")
	fl.StringVar(&owner, "owner", "", "name of the asker that the holder is shown (default $USER)")
	durationVar(fl, &timeout, "timeout", "w", 0, "how long to wait for the holders, and for etcd to answer "+
		"(0: without a limit for the holders, --command-timeout for etcd)")
	return cmd
}
