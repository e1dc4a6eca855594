package docs

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"time"

	"github.com/etcdlock/etcdlock"
)

func likeAScript(ctx context.Context, session *etcdlock.Session, name string, args ...string) error {
	return etcdlock.NewMutex(session, "backup").Do(ctx, func(ctx context.Context, _ *etcdlock.Lock) error {
		cmd := exec.CommandContext(ctx, name, args...) // killed when the lock is lost
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = time.Second // killed then; WithMargin has to be longer
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	})
}

// From scripts around etcdctl: a command under a lock.
func Example_etcdctl() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTTL(15*time.Second), etcdlock.WithMargin(2*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	fmt.Println(likeAScript(ctx, session, "echo", "the backup"))
	// Output:
	// the backup
	// <nil>
}
