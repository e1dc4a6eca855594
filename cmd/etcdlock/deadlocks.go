package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
)

// waitLink is one link of a cycle, for programs.
type waitLink struct {
	Owner string   `json:"owner"`
	Host  string   `json:"host"`
	PID   int      `json:"pid"`
	Key   string   `json:"waits_with"`
	For   string   `json:"for"`
	Has   []string `json:"has"`
}

func newDeadlocks(c *connection) *cobra.Command {
	out := &output{}
	cmd := &cobra.Command{
		Use:                   "deadlocks [PREFIX]",
		DisableFlagsInUseLine: true,
		Short:                 "Find cycles of waits",
		Long: `Finds those who wait for each other, so that none of them ever gets what it waits for, among all
names that begin with a prefix. Found are those that tell what they hold while they wait, as
programs do that lock under the context of what they hold; not those of other libraries and not
etcdlock lock within etcdlock lock. Exit code 1 if there are any. Evict one of them to let
the others go on.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			ctx, sigs := catchSignals(cmd.Context())
			defer sigs.stop()
			found, err := c.findDeadlocks(ctx, strings.Join(args, ""))
			if err != nil {
				return orSignal(ctx, err)
			}
			if err := out.deadlocks(found); err != nil {
				return err
			}
			if len(found) > 0 {
				return exitError(exitFailure)
			}
			return nil
		},
	}
	out.addFlag(cmd)
	return cmd
}

func (c *connection) findDeadlocks(ctx context.Context, prefix string) ([]etcdlock.Deadlock, error) {
	s, end, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, c.commandTimeout)
	defer cancel()
	return s.Deadlocks(ctx, prefix)
}

func (o *output) deadlocks(found []etcdlock.Deadlock) error {
	if o.json() {
		all := [][]waitLink{}
		for _, d := range found {
			var cycle []waitLink
			for _, w := range d {
				cycle = append(cycle, waitLink{w.Waiter.Owner, w.Waiter.Host, w.Waiter.PID, w.Waiter.Key, w.For.Key, w.Waiter.Holds})
			}
			all = append(all, cycle)
		}
		return printJSON(all)
	}
	if len(found) == 0 {
		fmt.Println("no deadlocks")
	}
	for i, d := range found {
		fmt.Printf("%s\n", o.in(red, fmt.Sprintf("deadlock %d of %d", i+1, len(found))))
		for _, w := range d {
			fmt.Printf("  %s (%s, pid %d) has %s\n    waits with %s for %s\n", printable(w.Waiter.Owner), printable(w.Waiter.Host), w.Waiter.PID,
				printable(strings.Join(w.Waiter.Holds, " ")), printable(w.Waiter.Key), printable(w.For.Key))
		}
	}
	return nil
}
