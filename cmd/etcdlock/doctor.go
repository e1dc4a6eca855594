package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/doctor"
)

func newDoctor(c *connection) *cobra.Command {
	out := &output{}
	cmd := &cobra.Command{
		Use:                   "doctor [PREFIX]",
		DisableFlagsInUseLine: true,
		Short:                 "Look for problems of etcd and of locks",
		Long: `Checks the members of etcd (version, raft leader, alarms, time to answer), the minimum TTL, the
permissions, and all names that begin with a prefix:
  - keys without a lease, which block a lock until they are deleted
  - names inside other names
  - TTLs that are long or not renewed
  - clocks that differ
  - deadlocks
  - holders that are asked to release

To check the permissions it writes a key under the prefix, with a lease, and deletes it. Without a
prefix it cannot tell which keys are in the way of a lock. It then finds a key without a lease
where no process waits only if the key looks like that of a lock. The exit code is 1 if a check
fails.`,
		Example: `  etcdlock doctor jobs/
  etcdlock doctor jobs/ -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			ctx, sigs := catchSignals(cmd.Context())
			defer sigs.stop()
			client, err := c.client(ctx)
			if err != nil {
				return orSignal(ctx, err)
			}
			defer client.Close()
			d := doctor.Doctor{Client: client, Prefix: strings.Join(args, ""), Patience: c.commandTimeout, Now: time.Now, DefaultTTL: etcdlock.DefaultTTL, Deadlocks: c.describeDeadlocks}
			findings := d.Examine(ctx)
			if err := orSignal(ctx, ctx.Err()); err != nil {
				return err
			}
			if err := out.findings(findings); err != nil {
				return err
			}
			for _, f := range findings {
				if f.Level == doctor.Wrong {
					return exitError(exitFailure)
				}
			}
			return nil
		},
	}
	out.addFlag(cmd)
	return cmd
}

func (o *output) findings(all []doctor.Finding) error {
	if o.json() {
		return printJSON(all)
	}
	t := o.newTable("", "WHAT", "FOUND")
	colours := map[doctor.Level]style{doctor.Good: green, doctor.Doubtful: yellow, doctor.Wrong: red}
	count := make(map[doctor.Level]int)
	for _, f := range all {
		count[f.Level]++
		t.addLong(cell{string(f.Level), colours[f.Level]}, f.What, f.Text)
	}
	if err := t.print(os.Stdout); err != nil {
		return err
	}
	_, err := fmt.Printf("%d wrong, %d doubtful\n", count[doctor.Wrong], count[doctor.Doubtful])
	return err
}
