package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/queues"
)

func newWatch(c *connection) *cobra.Command {
	out := &output{}
	cmd := &cobra.Command{
		Use:                   "watch NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Follow who holds, waits, comes and goes",
		Long: `Prints who holds and who waits, and then each change until it is interrupted: who lines up
(waits), is granted (holds), says something else (changed) and goes (left: released, expired or
evicted; etcd does not tell which). Over a lost connection it goes on with what is different then.`,
		Args: cobra.ExactArgs(1),
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
			// The first answer is waited for as for any request; later ones for as long as it takes.
			err = c.briefly(ctx, func(ctx context.Context, client *clientv3.Client) error {
				_, _, err := queues.One(ctx, client.KV, args[0])
				return err
			})
			if err != nil {
				return orSignal(ctx, err)
			}
			err = queues.Follow(ctx, client, args[0], func(ch queues.Change) error { return out.change(ch) })
			return orSignal(ctx, err)
		},
	}
	out.addFlag(cmd)
	return cmd
}

func (o *output) change(ch queues.Change) error {
	if o.json() {
		return printLine(ch)
	}
	colours := map[queues.What]style{queues.Granted: green, queues.LinedUp: yellow, queues.Gone: dim, queues.Changed: plain}
	who := holder(ch.Entry).text
	if ch.Entry.Host != "" {
		who += fmt.Sprintf(" (%s, pid %d)", ch.Entry.Host, ch.Entry.PID)
	}
	if w := wants(&ch.Entry); w != "" {
		who += ", " + w
	}
	_, err := fmt.Fprintf(os.Stdout, "%s  %-8d  %s  %s\n", ch.Time.Format(time.TimeOnly), ch.Revision,
		o.in(colours[ch.What], fmt.Sprintf("%-7s", ch.What)), printable(who))
	return err
}
