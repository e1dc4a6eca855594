package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

func newWatch(c *connection) *cobra.Command {
	out, command := &output{}, ""
	cmd := &cobra.Command{
		Use:                   "watch NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Follow the changes of a queue",
		Long: `Prints the holders and waiters of a name, and then each change until it is interrupted:
  waits    an entry was added to the queue
  holds    an entry was granted
  changed  an entry has another value
  left     an entry was deleted: it was released or evicted, or it expired

After a lost connection it continues with the differences.

With --exec it also runs a shell command for each of these lines, one after the other. The command
gets the change as JSON on its standard input, and ETCDLOCK_NAME, ETCDLOCK_CHANGE (a word above),
ETCDLOCK_OWNER, ETCDLOCK_HOST, ETCDLOCK_KEY, ETCDLOCK_CREATE_REVISION and ETCDLOCK_REVISION. A
command that fails is reported, and changes nothing. It comes too late to rely on what it is told.`,
		Example: `  etcdlock watch jobs/nightly
  etcdlock watch jobs/nightly -o json
  etcdlock watch scheduler --exec 'test $ETCDLOCK_CHANGE != holds || ./route-to "$ETCDLOCK_OWNER"'`,
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
			// The first read has the timeout of a request. Follow has none.
			err = c.briefly(ctx, func(ctx context.Context, client *clientv3.Client) error {
				_, _, err := queues.One(ctx, client.KV, args[0])
				return err
			})
			if err != nil {
				return orSignal(ctx, err)
			}
			err = queues.Follow(ctx, client, args[0], func(ch queues.Change) error {
				if err := out.change(ch); err != nil || command == "" {
					return err
				}
				return onChange(ctx, command, args[0], &ch)
			})
			return orSignal(ctx, err)
		},
	}
	out.addFlag(cmd)
	cmd.Flags().StringVar(&command, "exec", "", "shell command to run for each change")
	return cmd
}

func (o *output) change(ch queues.Change) error {
	if o.json() {
		return printLine(ch)
	}
	colours := map[queues.What]style{queues.Granted: green, queues.LinedUp: yellow, queues.Gone: dim, queues.Changed: plain}
	entry := holder(ch.Entry).text
	if ch.Entry.Host != "" {
		entry += fmt.Sprintf(" (%s, pid %d)", ch.Entry.Host, ch.Entry.PID)
	}
	if w := wants(&ch.Entry); w != "" {
		entry += ", " + w
	}
	_, err := fmt.Fprintf(os.Stdout, "%s  %-8d  %s  %s\n", ch.Time.Format(time.TimeOnly), ch.Revision,
		o.in(colours[ch.What], fmt.Sprintf("%-7s", ch.What)), printable(entry))
	return err
}
