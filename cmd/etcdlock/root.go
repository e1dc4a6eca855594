package main

import (
	"os"

	"github.com/spf13/cobra"
)

// newRoot makes the command with all subcommands.
func newRoot() *cobra.Command {
	c := &connection{silence: silence{out: os.Stderr}}
	root := &cobra.Command{
		Use:   "etcdlock",
		Short: "Locks and leader election on etcd, for scripts and operators",
		Long: `Runs a command under a lock or while it leads, and shows holders and waiters.

It takes the flags and the environment of etcdctl (ETCDCTL_ENDPOINTS and so on). Under the
same names it excludes "etcdctl lock", "etcdctl elect" and programs that use etcd's own
Go and Java libraries.

If etcd does not answer for 2 s, a line on standard error says so, with the reason for each
endpoint. Another line says when etcd answers again. Standard output has data only.`,
		Example: `  etcdlock lock backup -- ./backup.sh
  etcdlock elect scheduler -- ./scheduler
  etcdlock ls`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnv(cmd.Root().PersistentFlags())
		},
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	c.addFlags(root.PersistentFlags())
	root.AddCommand(newLock(c), newElect(c), newLs(c), newShow(c), newWatch(c), newAudit(c), newExporter(c), newUI(c), newEvict(c), newAsk(c), newTransfer(c), newStepDown(c), newPause(c), newResume(c), newDeadlocks(c), newDoctor(c), newServeDev(c), newVersion(), newMan())
	return root
}
