package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/queues"
)

func newLs(c *connection) *cobra.Command {
	out := &output{}
	cmd := &cobra.Command{
		Use:                   "ls [PREFIX]",
		DisableFlagsInUseLine: true,
		Short:                 "List locks, elections and semaphores: who holds, how many wait",
		Long: `Lists the names that begin with a prefix and are in use, with who holds. Without a prefix it
reads the names of all keys that there are, for which a user needs permission; of keys that do
not look like those of a lock it reads nothing else.

REVISION is that at which the holder lined up: its fencing token is that one or a larger one.
QUEUED is how long ago it lined up, and HELD how long ago it was granted, by the clock of its host.
etcd keeps neither: the first one stands in the entries of this library's locks, the second one is
known of what etcdlock lock and etcdlock elect hold, and with it the host of such a leader.`,
		Example: "  etcdlock ls\n  etcdlock ls jobs/ -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return c.briefly(cmd.Context(), func(ctx context.Context, client *clientv3.Client) error {
				store, err := queues.All(ctx, client, strings.Join(args, ""))
				if err != nil {
					return err
				}
				if out.json() {
					return printJSON(append([]queues.Queue{}, store.Queues...))
				}
				return out.list(store.Queues)
			})
		},
	}
	out.addFlag(cmd)
	return cmd
}

func (o *output) list(qs []queues.Queue) error {
	if len(qs) == 0 {
		fmt.Fprintln(os.Stderr, "etcdlock: nobody holds or waits")
		return nil
	}
	t := o.newTable("NAME", "KIND", "HOLDER", "HOST", "PID", "REVISION", "QUEUED", "HELD", "WAITING")
	for i := range qs {
		q := &qs[i]
		holders, waiters := q.Holders(), q.Waiters()
		if len(holders) == 0 {
			t.add(name(q.Name), q.Kind, "", "", "", "", "", "", len(waiters))
			continue
		}
		h := holders[0]
		who := holder(h)
		if len(holders) > 1 {
			who.text = fmt.Sprintf("%s and %d more", who.text, len(holders)-1)
		}
		kind := string(q.Kind)
		if q.Kind == queues.Semaphore {
			taken := 0
			for _, h := range holders {
				taken += h.Permits
			}
			kind = fmt.Sprintf("%s %d/%d", kind, taken, h.Limit)
		}
		if q.Kind == queues.RWLock && h.Shared {
			kind += " (shared)"
		}
		t.add(name(q.Name), kind, who, h.Host, number(h.PID), h.CreateRevision, age(h.Since), age(h.Granted), number(len(waiters)))
	}
	return t.print(os.Stdout)
}

// holder names who has an entry.
func holder(e queues.Entry) cell {
	switch {
	case e.Stray():
		return cell{"no lease: " + e.Key, red}
	case e.Owner != "":
		return cell{e.Owner, plain}
	case e.Value != "":
		return cell{e.Value, plain}
	default:
		return cell{"lease " + e.LeaseHex, dim}
	}
}

// number is a number that means nothing if it is 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
