package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// evictFlags are those of the evict command.
type evictFlags struct {
	yes    bool
	key    string
	revoke bool
}

func newEvict(c *connection) *cobra.Command {
	f := &evictFlags{}
	cmd := &cobra.Command{
		Use:                   "evict NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Take a lock or the leadership from who has it",
		Long: `Deletes the key of who holds, so that the next one in line holds at once. It tells what that
means, and asks. The one who is evicted is told within a moment, and may have work under way
until then, and after: only the fencing token protects from that. To ask a holder to come to
an end by itself use etcdlock ask.

With several holders, as of a semaphore, or for somebody who waits or a stray key, say which
with --key. --revoke revokes the whole lease, with all else that its process holds.`,
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
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.StringVar(&f.key, "key", "", "whose: its key, as show tells, or what stands behind the name and the slash in it")
	fl.BoolVar(&f.revoke, "revoke", false, "revoke its lease")
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
			return usagef("nothing was done, as standard input is no terminal at which to confirm it: say --yes")
		}
		fmt.Fprint(os.Stderr, "Evict? [y/N] ")
		answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
			fmt.Fprintln(os.Stderr, "Nothing was done.")
			return exitError(exitFailure)
		}
	}
	act, cancelAct := context.WithTimeout(ctx, c.commandTimeout) // people take their time to answer
	defer cancelAct()
	// Only the one that was shown: not the next one, who may hold by now.
	same := clientv3.Compare(clientv3.CreateRevision(e.Key), "=", e.CreateRevision)
	if f.revoke {
		resp, err := client.Txn(act).If(same).Commit()
		if err == nil && resp.Succeeded {
			_, err = client.Revoke(act, e.Lease)
		}
		return f.done(err, resp, e)
	}
	resp, err := client.Txn(act).If(same).Then(clientv3.OpDelete(e.Key)).Commit()
	return f.done(err, resp, e)
}

func (f *evictFlags) done(err error, resp *clientv3.TxnResponse, e *queues.Entry) error {
	switch {
	case err != nil:
		return fmt.Errorf("etcd: %w", err)
	case !resp.Succeeded:
		return fmt.Errorf("%s had gone by itself; nothing was done", wire.Quote(e.Key))
	default:
		fmt.Fprintln(os.Stderr, "Evicted.")
		return nil
	}
}

// choose finds the one to evict.
func (f *evictFlags) choose(q *queues.Queue) (*queues.Entry, error) {
	if f.key != "" {
		key := fromArg(f.key)
		for i := range q.Entries {
			if q.Entries[i].Key == key || q.Entries[i].Key == wire.Prefix(q.Name)+key {
				return &q.Entries[i], nil
			}
		}
		return nil, fmt.Errorf("%s has no key %s; see etcdlock show %s", wire.Quote(q.Name), wire.Quote(key), named(q.Name))
	}
	var found *queues.Entry
	for i := range q.Entries {
		e := &q.Entries[i]
		switch {
		case e.Holds && found != nil:
			return nil, usagef("several hold %s: say which by --key, from etcdlock show %s", wire.Quote(q.Name), named(q.Name))
		case e.Holds:
			found = e
		}
	}
	if found == nil {
		return nil, fmt.Errorf("nobody holds %s", wire.Quote(q.Name))
	}
	return found, nil
}

// plan tells what will come of it.
func (f *evictFlags) plan(ctx context.Context, client *clientv3.Client, q *queues.Queue, e *queues.Entry) string {
	var b strings.Builder
	who := printable(holder(*e).text)
	if e.Host != "" {
		who += fmt.Sprintf(" (%s, pid %d)", printable(e.Host), e.PID)
	}
	fmt.Fprintf(&b, "%s %s %s, by the key %s of revision %d.\n", who, state(e).text, wire.Quote(q.Name), wire.Quote(e.Key), e.CreateRevision)
	if f.revoke {
		fmt.Fprintf(&b, "Its lease %s will be revoked", e.LeaseHex)
		if ttl, err := client.TimeToLive(ctx, e.Lease, clientv3.WithAttachedKeys()); err == nil && len(ttl.Keys) > 1 {
			fmt.Fprintf(&b, ", and with it go all %d keys of that process:", len(ttl.Keys))
			for _, k := range ttl.Keys {
				b.WriteString("\n  " + safe(string(k)))
			}
		}
		b.WriteString(".\n")
	} else {
		b.WriteString("That key will be deleted. ")
	}
	waiters := q.Waiters()
	switch {
	case !e.Holds:
		b.WriteString("It loses its place in line.")
	case len(waiters) == 0:
		b.WriteString("Nobody waits, so it will be free.")
	default:
		next := waiters[0]
		fmt.Fprintf(&b, "The next one, %s, can hold at once,\nwhile work of the one who is evicted may be under way: it is told, and not waited for.", printable(holder(next).text))
	}
	return b.String()
}
