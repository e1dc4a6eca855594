package main

import (
	"os"

	"github.com/spf13/cobra"
)

// newRoot makes the command with all its subcommands.
func newRoot() *cobra.Command {
	c := &connection{silence: silence{out: os.Stderr}}
	root := &cobra.Command{
		Use:   "etcdlock",
		Short: "Locks and leaders on etcd, for scripts and operators",
		Long: `etcdlock runs commands under a lock or while leading, and shows who holds and who
waits. It takes the flags and the environment of etcdctl (ETCDCTL_ENDPOINTS and so on),
and excludes etcdctl lock and elect, and everybody on etcd's own libraries, under the
same names.

If etcd does not answer for 2 s, a line on standard error says so, with the reason for each
endpoint, and another line when etcd answers again.`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return fromEnv(cmd.Root().PersistentFlags())
		},
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	c.addFlags(root.PersistentFlags())
	root.AddCommand(newLock(c), newElect(c), newLs(c), newShow(c), newWatch(c), newEvict(c), newAsk(c), newDeadlocks(c), newDoctor(c), newServeDev(c), newVersion(), newMan())
	return root
}
