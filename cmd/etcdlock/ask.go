package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
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
		Short:                 "Ask who holds a name to let go, and wait until it has",
		Long: `Asks all who hold a name now to let go, and waits until they have. The holder decides: etcdlock
lock says so on its standard error, and with --on-ask sends its command a signal; programs get it
by Asked of the library, if they listen. Nobody is evicted, and nothing is held afterwards.
Exit code 101 if they have not let go within --timeout; see etcdlock lock for the others.`,
		Example: `  etcdlock ask --reason "deploying" --timeout 1m jobs/nightly || etcdlock evict jobs/nightly`,
		Args:    cobra.ExactArgs(1),
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
				return timedOutError{fmt.Errorf("%s: still held after %v", wire.Quote(args[0]), timeout)}
			}
			return orSignal(ctx, err)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&reason, "reason", "", "why, for the holder to read")
	fl.StringVar(&owner, "owner", "", "who asks, for the holder to read (default $USER)")
	durationVar(fl, &timeout, "timeout", "w", 0, "how long to wait for the holder, and for etcd to answer "+
		"(0: for the holder as long as it takes, for etcd --command-timeout)")
	return cmd
}
