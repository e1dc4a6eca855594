// Command etcdlock provides locks and leader election on etcd for scripts and operators.
//
//	etcdlock lock backup -- ./backup.sh          runs one at a time, among all machines
//	etcdlock elect scheduler -- ./scheduler      runs one active instance
//	etcdlock ls                                  lists holders and waiters
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case child.GuardCommand:
			child.RunGuard()
			return
		case child.StarterCommand:
			child.RunStarter(os.Args[2:])
			return
		}
	}
	stop := child.ReapOrphans()
	code := run(context.Background(), os.Args[1:])
	stop()
	if interrupted.Load() && code == 128+int(syscall.SIGINT) {
		child.DieOfInterrupt()
	}
	os.Exit(code)
}

// interrupted is true after the command has died of SIGINT, or SIGINT has ended the wait in the
// queue.
var interrupted atomic.Bool

// run runs the command line and returns its exit code.
func run(ctx context.Context, args []string) int {
	cmd := newRoot()
	cmd.SetArgs(args)
	began := false // true once a subcommand runs: earlier errors are about flags and arguments
	beforeEach(cmd, func() { began = true })
	ran, err := cmd.ExecuteContextC(ctx)
	if err != nil && !began {
		err = usagef("%w; see %s --help", err, ran.CommandPath())
	}
	var code exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	default:
		fmt.Fprintln(os.Stderr, "etcdlock:", trimName(err))
		return codeOf(err)
	}
}

// beforeEach makes each subcommand call f first and read the names in its arguments with text.FromArg.
func beforeEach(cmd *cobra.Command, f func()) {
	for _, sub := range cmd.Commands() {
		beforeEach(sub, f)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			f()
			names := len(args)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				names = dash
			}
			for i := range names {
				args[i] = text.FromArg(args[i])
			}
			return run(cmd, args)
		}
	}
}
