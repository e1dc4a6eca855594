package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func newLs(c *connection) *cobra.Command {
	out, sel := &output{}, &selection{}
	cmd := &cobra.Command{
		Use:                   "ls [PREFIX]",
		DisableFlagsInUseLine: true,
		Short:                 "List locks, elections and semaphores with their holders",
		Long: `Lists the names in use that begin with a prefix, each with its holder and the number of waiters.
Without a prefix it reads the names of all keys in etcd, which needs the permission to read them.
It reads the value of a key only if the key looks like that of a lock. A name that only has keys
without a lease is not listed. A line on standard error reports such keys.

REVISION is that at which the holder's key was created. The holder's fencing token is this revision
or a larger one. QUEUED is how long ago the holder entered the queue, and HELD how long ago it
acquired the lock, by the clock of its host. QUEUED is known for locks of this library. HELD, and
the host of a leader, are known for "etcdlock lock" and "etcdlock elect" only.`,
		Example: `  etcdlock ls
  etcdlock ls jobs/ -o json
  etcdlock ls --waiting --sort held --limit 10
  etcdlock ls --kind election --holder host-a`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(out.check(), sel.check()); err != nil {
				return err
			}
			return c.briefly(cmd.Context(), func(ctx context.Context, client *clientv3.Client) error {
				store, err := queues.All(ctx, client, strings.Join(args, ""))
				if err != nil {
					return err
				}
				some, more := sel.of(store.Queues)
				if out.json() {
					return printJSON(append([]queues.Queue{}, some...))
				}
				if err := out.list(some, len(store.Queues)); err != nil {
					return err
				}
				sel.tellMore(some, more)
				return tellOfStrays(ctx, client, store.Others, args)
			})
		},
	}
	out.addFlag(cmd)
	sel.addFlags(cmd)
	return cmd
}

// tellOfStrays prints a line if some of the keys block a name although no process uses this name.
func tellOfStrays(ctx context.Context, client *clientv3.Client, keys, prefix []string) error {
	stray, err := queues.WithoutLease(ctx, client.KV, keys)
	if err != nil || len(stray) == 0 {
		return err
	}
	first, _ := wire.NameOf(stray[0])
	see := "etcdlock doctor"
	for _, p := range prefix {
		see += " " + text.Named(p)
	}
	fmt.Fprintf(os.Stderr, "etcdlock: not listed: %d keys without a lease, which block locks such as %s until they are deleted; see %s\n",
		len(stray), wire.Quote(first), see)
	return nil
}

// list prints some of all names.
func (o *output) list(qs []queues.Queue, all int) error {
	switch {
	case all == 0:
		fmt.Fprintln(os.Stderr, "etcdlock: no lock or election is in use")
		return nil
	case len(qs) == 0:
		fmt.Fprintf(os.Stderr, "etcdlock: none of %d names in use is selected\n", all)
		return nil
	}
	t := o.newTable("NAME", "KIND", "HOLDER", "HOST", "PID", "REVISION", "QUEUED", "HELD", "WAITING")
	for i := range qs {
		q := &qs[i]
		holders, waiters := q.Holders(), q.Waiters()
		if len(holders) == 0 {
			t.add(name(q.Name), string(q.Kind)+pausedKind(q), "", "", "", "", "", "", len(waiters))
			continue
		}
		h := holders[0]
		first := holder(h)
		if len(holders) > 1 {
			first.text = fmt.Sprintf("%s and %d more", first.text, len(holders)-1)
		}
		kind := string(q.Kind) + pausedKind(q)
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
		t.add(name(q.Name), kind, first, h.Host, number(h.PID), h.CreateRevision, age(h.Since), age(h.Granted), number(len(waiters)))
	}
	return t.print(os.Stdout)
}

// pausedKind is added to the kind of an election that is paused.
func pausedKind(q *queues.Queue) string {
	if slices.ContainsFunc(q.Entries, func(e queues.Entry) bool { return e.Paused }) {
		return " (paused)"
	}
	return ""
}

// holder is the name of an entry's owner.
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

// number is the text of n, which is empty for 0.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
