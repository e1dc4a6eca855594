package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/eviction"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// evictFlags are the flags of the evict command.
type evictFlags struct {
	yes    bool
	entry  string
	revoke bool
	reason string
}

func newEvict(c *connection) *cobra.Command {
	f := &evictFlags{}
	cmd := &cobra.Command{
		Use:                   "evict NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Remove the holder of a lock, or the leader",
		Long: `Deletes the holder's key, so that the next waiter holds at once.

It prints what will happen, and asks for confirmation. The evicted process usually learns of it
within milliseconds, and may work on until then or longer. Only a fencing token protects the
resource from that work. To ask a holder to release by itself, use "etcdlock ask".

If there are several holders, as of a semaphore, --entry says which. --entry also removes a waiter
or a key without a lease. --revoke revokes the holder's lease, which ends everything that its
process holds under it.

--reason is shown by "etcdlock audit" and, without --revoke, in the error of the evicted process.
It is written beside the queue for a minute.`,
		Example: `  etcdlock evict jobs/nightly
  etcdlock evict --reason "hangs since 3:00" jobs/nightly
  etcdlock evict --yes --revoke jobs/nightly
  etcdlock evict --entry jobs/nightly/old jobs/nightly`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			return f.run(cmd.Context(), c, client, args[0])
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask for confirmation")
	fl.StringVar(&f.entry, "entry", "", "key to delete, as show prints it, with or without the name before it")
	fl.BoolVar(&f.revoke, "revoke", false, "revoke the lease of the key")
	fl.StringVar(&f.reason, "reason", "", "why, for the evicted process and for audits")
	return cmd
}

func (f *evictFlags) run(ctx context.Context, c *connection, client *clientv3.Client, name string) error {
	short, cancel := context.WithTimeout(ctx, c.commandTimeout)
	defer cancel()
	q, _, err := queues.One(short, client.KV, name)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	e, err := f.choose(&q)
	if err != nil {
		return err
	}
	if f.revoke && e.Stray() {
		return usagef("%s has no lease that could be revoked", wire.Quote(e.Key))
	}
	fmt.Fprintln(os.Stderr, f.plan(short, client, &q, e))
	if !f.yes {
		if !term.IsTerminal(int(os.Stdin.Fd())) {
			return usagef("nothing was done: standard input is not a terminal, so give --yes to confirm")
		}
		fmt.Fprint(os.Stderr, "Evict? [y/N] ")
		answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			fmt.Fprintln(os.Stderr, "Nothing was done.")
			return exitError(exitFailure)
		}
	}
	act, cancelAct := context.WithTimeout(ctx, c.commandTimeout) // the answer may have taken longer than short
	defer cancelAct()
	resp, err := f.evict(act, client, name, e)
	return f.done(err, resp, e)
}

// evict evicts the entry that was shown.
func (f *evictFlags) evict(ctx context.Context, client *clientv3.Client, name string, e *queues.Entry) (*clientv3.TxnResponse, error) {
	host, _ := os.Hostname()
	return eviction.Evict(ctx, client, eviction.Order{
		Name: name, Lease: e.Lease, Revoke: f.revoke,
		Notice: eviction.Notice{
			Reason: f.reason, Owner: os.Getenv("USER"), Host: host, PID: os.Getpid(), Since: time.Now().UTC(),
			Key: e.Key, CreateRevision: e.CreateRevision,
		},
	})
}

func (f *evictFlags) done(err error, resp *clientv3.TxnResponse, e *queues.Entry) error {
	switch {
	case err != nil:
		return fmt.Errorf("etcd: %w", err)
	case !resp.Succeeded:
		return fmt.Errorf("nothing was done: %s is no longer there", wire.Quote(e.Key))
	default:
		fmt.Fprintln(os.Stderr, "Evicted.")
		return nil
	}
}

// choose finds the entry to evict.
func (f *evictFlags) choose(q *queues.Queue) (*queues.Entry, error) {
	if f.entry != "" {
		key := text.FromArg(f.entry)
		for i := range q.Entries {
			if q.Entries[i].Key == key || q.Entries[i].Key == wire.Prefix(q.Name)+key {
				return &q.Entries[i], nil
			}
		}
		return nil, fmt.Errorf("%s has no key %s; see etcdlock show %s", wire.Quote(q.Name), wire.Quote(key), text.Named(q.Name))
	}
	var found *queues.Entry
	for i := range q.Entries {
		e := &q.Entries[i]
		switch {
		case e.Holds && found != nil:
			return nil, usagef("%s has several holders: choose one with --entry; etcdlock show %s prints the keys", wire.Quote(q.Name), text.Named(q.Name))
		case e.Holds:
			found = e
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s has no holder", wire.Quote(q.Name))
	}
	return found, nil
}

// plan says what the eviction will do.
func (f *evictFlags) plan(ctx context.Context, client *clientv3.Client, q *queues.Queue, e *queues.Entry) string {
	var b strings.Builder
	owner := printable(holder(*e).text)
	if e.Host != "" {
		owner += fmt.Sprintf(" (%s, pid %d)", printable(e.Host), e.PID)
	}
	switch {
	case e.Stray():
		fmt.Fprintf(&b, "The key %s of revision %d has no lease, and is in the queue of %s.\n", wire.Quote(e.Key), e.CreateRevision, wire.Quote(q.Name))
	default:
		verb := map[bool]string{true: "holds", false: "waits for"}[e.Holds]
		fmt.Fprintf(&b, "%s %s %s with the key %s of revision %d.\n", owner, verb, wire.Quote(q.Name), wire.Quote(e.Key), e.CreateRevision)
	}
	if f.revoke {
		fmt.Fprintf(&b, "Its lease %s will be revoked", e.LeaseHex)
		if keys := keysUnder(ctx, client, e.Lease); len(keys) > 1 {
			fmt.Fprintf(&b, ", which deletes all %d keys of that process:", len(keys))
			for _, k := range keys {
				b.WriteString("\n  " + text.Safe(string(k)))
			}
		}
		b.WriteString(".\n")
	} else {
		b.WriteString("This key will be deleted. ")
	}
	b.WriteString(effect(q, e))
	return b.String()
}

// keysUnder returns the keys under a lease, without inboxes, which mean nothing to a user. It returns none if
// etcd does not answer.
func keysUnder(ctx context.Context, client *clientv3.Client, lease clientv3.LeaseID) [][]byte {
	ttl, err := client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(ttl.Keys, func(key []byte) bool { return wire.IsInbox(string(key), lease) })
}

// effect says what the eviction means for the process of the entry and for the waiters.
func effect(q *queues.Queue, e *queues.Entry) string {
	waiters := q.Waiters()
	switch {
	case !e.Holds && e.Stray():
		return "The entries behind it no longer wait for it."
	case !e.Holds:
		return "The waiter loses its place in the queue."
	case len(waiters) == 0:
		return "No process waits, so the lock will be free."
	}
	next := fmt.Sprintf("The next waiter, %s, can then hold at once.", printable(holder(waiters[0]).text))
	if e.Stray() {
		return next
	}
	return next + "\nThe evicted process is notified, but its work may still run."
}
