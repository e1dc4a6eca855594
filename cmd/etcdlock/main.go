// Command etcdlock has locks and leaders on etcd for scripts and operators.
//
//	etcdlock lock backup -- ./backup.sh          one at a time, among all machines
//	etcdlock elect scheduler -- ./scheduler      one active instance
//	etcdlock ls                                  who holds, who waits
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case child.GuardCommand:
			child.RunGuard()
			return
		case child.StarterCommand:
			child.RunStarter()
			return
		}
	}
	os.Exit(run(context.Background(), os.Args[1:]))
}

// run is main with an exit code.
func run(ctx context.Context, args []string) int {
	cmd := newRoot()
	cmd.SetArgs(args)
	if _, _, err := cmd.Find(args); err != nil {
		err = usageError{err}
		fmt.Fprintln(os.Stderr, "etcdlock:", err)
		return codeOf(err)
	}
	err := cmd.ExecuteContext(ctx)
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
