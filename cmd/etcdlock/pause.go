package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/text"
	"github.com/etcdlock/etcdlock/internal/pause"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func newPause(c *connection) *cobra.Command {
	var d time.Duration
	cmd := &cobra.Command{
		Use:                   "pause NAME --for DURATION",
		DisableFlagsInUseLine: true,
		Short:                 "Let no other candidate lead: the leader stays",
		Long: `Pauses an election. The leader stays. If its term ends, no candidate leads until the pause ends, by
"etcdlock resume" or after --for. Candidates stay in the queue meanwhile.

The pause is an entry at the end of the queue that all later candidates wait for, of any library.
A candidate that waits already has to move behind it when it would lead. Candidates of
"etcdlock elect" do, and candidates with a priority or a takeover. The command refuses if any other
entry waits, because it would lead.

A transfer to a candidate ahead of the pause still works, by "etcdlock transfer" too.

The exit code is 1 if the election is paused already, or if an entry is in the way.`,
		Example: `  etcdlock pause scheduler --for 1h
  etcdlock pause scheduler --for 10m || etcdlock show scheduler`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.checkNames(args[0]); err != nil {
				return err
			}
			if d < time.Second {
				return usagef("--for %v: give at least a second, such as 1h", d)
			}
			return c.briefly(cmd.Context(), func(ctx context.Context, client *clientv3.Client) error {
				p, err := pause.Begin(ctx, client, args[0], d)
				if err != nil {
					return notPaused(args[0], err)
				}
				fmt.Fprintln(os.Stderr, "etcdlock:", paused(args[0], p))
				return nil
			})
		},
	}
	durationVar(cmd.Flags(), &d, "for", "", 0, "time after which the pause ends by itself")
	return cmd
}

// paused is what a pause has begun with.
func paused(name string, p *pause.Pause) string {
	who := "no process leads"
	if p.Leader != nil {
		who = "the leader " + wire.Quote(string(p.Leader.Value)) + " stays"
	}
	return fmt.Sprintf("%s is paused until %s, and %s; etcdlock resume %s ends the pause", wire.Quote(name), p.Until.Format(time.DateTime), who, text.Named(name))
}

// notPaused is the error of a pause that has not begun.
func notPaused(name string, err error) error {
	if isA[*pause.UnknowingError](err) {
		return fmt.Errorf("%s: %w. Give each candidate a priority (WithPriority), or run it by etcdlock elect", wire.Quote(name), err)
	}
	if errors.Is(err, pause.ErrPaused) {
		return fmt.Errorf("%s: %w: to change its time, run etcdlock resume %s first", wire.Quote(name), err, text.Named(name))
	}
	return err
}

func newResume(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:                   "resume NAME",
		DisableFlagsInUseLine: true,
		Short:                 "End the pause of an election",
		Long: `Ends a pause of "etcdlock pause". If nobody leads, the next candidate leads at once. The exit code
is 1 if the election is not paused.`,
		Example: `  etcdlock resume scheduler`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.briefly(cmd.Context(), func(ctx context.Context, client *clientv3.Client) error {
				err := pause.End(ctx, client, args[0])
				if errors.Is(err, pause.ErrNotPaused) {
					return fmt.Errorf("%s: %w", wire.Quote(args[0]), err)
				}
				return err
			})
		},
	}
}
