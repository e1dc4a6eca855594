package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// shown is what show prints of a name.
type shown struct {
	queues.Queue
	Revision int64            `json:"revision"`
	Requests []queues.Request `json:"requests,omitempty"`
}

func newShow(c *connection) *cobra.Command {
	out := &output{}
	limit := 0
	cmd := &cobra.Command{
		Use:                   "show NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Show the queue of a name: holders, waiters and their leases",
		Long: `Shows the holders and waiters of a name in their order, at one revision.

LEASE is the rest of the TTL in etcd, rounded down to seconds. While the process renews, the rest
rises again every third of the TTL. If it only falls, the process is dead, stopped or cut off.
QUEUED is how long ago an entry entered the queue, and HELD how long ago it was granted, if that is
known; see "etcdlock ls --help". Of a long queue the table has the first entries. The exit code
is 1 if the queue is empty.`,
		Example: `  etcdlock show jobs/nightly
  etcdlock show jobs/nightly -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d: give a number of entries, or 0 for all", limit)
			}
			return c.briefly(cmd.Context(), func(ctx context.Context, client *clientv3.Client) error {
				s := shown{}
				var err error
				if s.Queue, s.Revision, err = queues.One(ctx, client.KV, args[0]); err != nil {
					return err
				}
				if out.json() {
					limit = 0
				}
				entries := s.Entries
				if limit > 0 && len(entries) > limit {
					s.Entries = entries[:limit]
				}
				if err := s.TTLs(ctx, client.Lease); err != nil {
					return err
				}
				if s.Requests, err = queues.Requests(ctx, client.KV, args[0]); err != nil {
					return err
				}
				if out.json() {
					err = printJSON(s)
				} else {
					err = out.show(&s, len(entries)-len(s.Entries))
				}
				if err == nil && len(s.Entries) == 0 {
					return exitError(exitFailure)
				}
				return err
			})
		},
	}
	out.addFlag(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "number of entries in the table (0: all; JSON always has all)")
	return cmd
}

func (o *output) show(s *shown, more int) error {
	kind := string(s.Kind)
	if len(s.Entries) == 0 {
		kind = "free"
	}
	fmt.Printf("%s  %s, at revision %d\n", o.in(bold, text.Named(s.Name)), kind, s.Revision)
	if len(s.Entries) == 0 {
		fmt.Fprintf(os.Stderr, "etcdlock: the queue is empty; to list the names that begin with it: etcdlock ls %s\n", text.Named(s.Name))
		return nil
	}
	t := o.newTable("", "STATE", "OWNER", "HOST", "PID", "QUEUED", "HELD", "LEASE", "REVISION", "WANTS", "KEY")
	for i := range s.Entries {
		e := &s.Entries[i]
		lease := ""
		if !e.Stray() {
			lease = fmt.Sprintf("%v of %v", time.Duration(e.TTL)*time.Second, time.Duration(e.GrantedTTL)*time.Second)
		}
		t.addLong(i+1, state(e), holder(*e), e.Host, number(e.PID), age(e.Since), age(e.Granted), lease, e.CreateRevision, wants(e), name(e.Key))
	}
	if err := t.print(os.Stdout); err != nil {
		return err
	}
	if more > 0 {
		fmt.Printf("and %d more entries (--limit 0 shows all)\n", more)
	}
	for _, r := range s.Requests {
		what := "release"
		if r.To != "" {
			what = "transfer to " + printable(r.To)
		}
		fmt.Printf("asked to %s for %s by %s\n", what, age(r.Since), printable(asker(r.Owner, r.Host, r.PID, r.Reason)))
	}
	return nil
}

// state is the state of an entry.
func state(e *queues.Entry) cell {
	switch {
	case e.Stray():
		return cell{"stray", red}
	case e.Paused:
		return cell{"pauses", yellow}
	case e.Holds:
		return cell{"holds", green}
	default:
		return cell{"waits", yellow}
	}
}

// wants is what an entry requests besides a plain lock.
func wants(e *queues.Entry) string {
	var all []string
	if e.Shared {
		all = append(all, "shared")
	}
	if e.Permits > 0 {
		all = append(all, fmt.Sprintf("%d of %d", e.Permits, e.Limit))
	}
	if e.Priority != 0 {
		all = append(all, fmt.Sprintf("priority %d", e.Priority))
	}
	if len(e.Together) > 1 {
		all = append(all, "with "+strings.Join(e.Together, " "))
	}
	if len(e.Has) > 0 {
		all = append(all, "holds "+strings.Join(e.Has, " "))
	}
	return strings.Join(all, ", ")
}
