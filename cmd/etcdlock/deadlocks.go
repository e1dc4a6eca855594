package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
)

// waitLink is one link of a cycle in JSON.
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
		Short:                 "Find deadlocks: cycles of waits",
		Long: `Finds processes that wait for each other's locks, among all names that begin with a prefix.

A wait is seen if its entry in etcd lists what its process holds. A program lists its holds if it
locks under the context of a hold. Waits of other libraries, and of one "etcdlock lock" inside
another, are not seen. To end a deadlock, evict one of the holders. The exit code is 1 if there
is a deadlock.`,
		Example: `  etcdlock deadlocks
  etcdlock deadlocks orders/ -o json`,
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

// describeDeadlocks finds the deadlocks under a prefix with a session of its own.
func (c *connection) describeDeadlocks(ctx context.Context, prefix string) ([]string, error) {
	found, err := c.findDeadlocks(ctx, prefix)
	return lines(found), err
}

// lines describes each deadlock.
func lines(found []etcdlock.Deadlock) []string {
	all := make([]string, len(found))
	for i, d := range found {
		all[i] = d.String()
	}
	return all
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
		fmt.Fprintln(os.Stderr, "etcdlock: no deadlock found")
	}
	for i, d := range found {
		fmt.Printf("%s\n", o.in(red, fmt.Sprintf("deadlock %d of %d", i+1, len(found))))
		for _, w := range d {
			fmt.Printf("  %s (%s, pid %d) holds %s\n    waits with %s for %s\n", printable(w.Waiter.Owner), printable(w.Waiter.Host), w.Waiter.PID,
				printable(strings.Join(w.Waiter.Holds, " ")), printable(w.Waiter.Key), printable(w.For.Key))
		}
	}
	return nil
}
