package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

func newAudit(c *connection) *cobra.Command {
	out := &output{}
	var from int64
	cmd := &cobra.Command{
		Use:                   "audit NAME...",
		DisableFlagsInUseLine: true,
		Short:                 "Print each grant and each end of a lock, and each leader",
		Long: `Follows names until it is interrupted, and prints each event:
  granted  an entry holds
  ended    a hold is over
  leader   a candidate leads, or has proclaimed another value
  vacancy  an election has no leader
  missed   etcd has compacted revisions that were not read yet

An end has what etcd tells of it:
  evicted              with the reason that "etcdlock evict --reason" gave
  key deleted          the holder released, or another client deleted the key
  released or revoked  the lease is gone, and cannot have expired: the holder's session has closed,
                       as at the end of a term, or a client has revoked the lease
  lease ended          the lease is gone, and may have expired
  not observed         of a replayed event, if the lease is gone by now: any of the above
etcd itself does not keep why a key is gone. The leases of up to 8 holders of each name are read
every second to tell an expiry from other ends.

Each event has the revision at which it occurred. --from replays events from a revision on, if etcd
has not compacted it. Continue each name with the revision of its last line: the lines of that
revision come again. etcd keeps no times, so a replayed event has none, and the time of another one
is that of its observation.`,
		Example: `  etcdlock audit jobs/nightly scheduler
  etcdlock audit --from 4711 -o json jobs/nightly`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if from < 0 {
				return usagef("--from must not be negative")
			}
			ctx, sigs := catchSignals(cmd.Context())
			defer sigs.stop()
			client, err := c.client(ctx)
			if err != nil {
				return orSignal(ctx, err)
			}
			defer client.Close()
			// The first read has the timeout of a request. Audit has none.
			err = c.briefly(ctx, func(ctx context.Context, client *clientv3.Client) error {
				_, _, err := queues.One(ctx, client.KV, args[0])
				return err
			})
			if err == nil {
				err = audit(ctx, client, args, from, out)
			}
			return orSignal(ctx, err)
		},
	}
	out.addFlag(cmd)
	cmd.Flags().Int64Var(&from, "from", 0, "replay from this `revision` on (default the present holders)")
	return cmd
}

// audit follows all names at once, until one of them fails. The events of one name are in order.
func audit(ctx context.Context, client *clientv3.Client, names []string, from int64, out *output) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			fail(queues.Audit(ctx, client, name, from, func(e queues.Audited) error {
				mu.Lock()
				defer mu.Unlock()
				return out.audited(e)
			}))
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// mostReason is how many characters of the reason of an eviction are printed. JSON has all of it.
const mostReason = 500

func (o *output) audited(a queues.Audited) error {
	if o.json() {
		return printLine(a)
	}
	at := "-       "
	if !a.Time.IsZero() {
		at = a.Time.Format(time.TimeOnly)
	}
	colours := map[queues.AuditEvent]style{queues.Held: green, queues.Leads: green, queues.Vacancy: red, queues.Missed: red}
	line := fmt.Sprintf("%s  %-8d  %s  %s", at, a.Revision, o.in(colours[a.Event], fmt.Sprintf("%-7s", a.Event)), printable(a.Name))
	if e := a.Entry; e != nil {
		line += "  " + printable(holder(*e).text)
		if e.Host != "" {
			line += fmt.Sprintf(" (%s, pid %d)", printable(e.Host), e.PID)
		}
	}
	if a.End != "" {
		line += ": " + a.End
	}
	if a.By != "" {
		line += " by " + printable(a.By)
	}
	if a.Reason != "" {
		line += ": " + cut(text.Safe(a.Reason), mostReason)
	}
	_, err := fmt.Fprintln(os.Stdout, line)
	return err
}
