package docs

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func logged(ctx context.Context, client *clientv3.Client, logger *slog.Logger) (*etcdlock.Session, error) {
	// One line for each grant and each end of a hold, and a line for each long wait.
	slow := &etcdlock.Trace{
		AcquireEnd: func(ctx context.Context, e etcdlock.AcquireEndInfo) {
			if e.Waited > time.Second {
				logger.WarnContext(ctx, "slow lock", "name", e.Name, "kind", e.Kind.String(), "path", e.Path.String())
			}
		},
	}
	return etcdlock.NewSession(ctx, client, etcdlock.WithTrace(etcdlock.LogTrace(logger), slow))
}

// The trace of docs/observing.md.
func Example_observing() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key { // what differs from run to run
		case "time", "token", "create_revision", "lease", "waited", "held":
			return slog.Attr{}
		}
		return a
	}}))
	session, err := logged(ctx, client, logger)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)
	lock, err := etcdlock.NewMutex(session, "orders/42").Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Stats().Released)
	// Output:
	// level=INFO msg="lock granted" name=orders/42 kind=mutex path=free
	// level=INFO msg="lock ended" name=orders/42 kind=mutex cause=released
	// 1
}
