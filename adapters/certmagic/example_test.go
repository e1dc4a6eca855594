package certmagiclock_test

import (
	"context"
	"log"

	"github.com/caddyserver/certmagic"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	certmagiclock "github.com/etcdlock/etcdlock/adapters/certmagic"
)

// storage has the files on a file system that all servers mount, and the locks in etcd:
// the lock files of certmagic's own FileStorage count on clocks.
type storage struct {
	files
	*certmagiclock.Locker
}

// files is FileStorage without its locks.
type files interface {
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
	Delete(ctx context.Context, key string) error
	Exists(ctx context.Context, key string) bool
	List(ctx context.Context, path string, recursive bool) ([]string, error)
	Stat(ctx context.Context, key string) (certmagic.KeyInfo, error)
}

func Example() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := etcdlock.NewSession(ctx, client)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	certmagic.Default.Storage = storage{
		files:  &certmagic.FileStorage{Path: "/srv/certificates"},
		Locker: certmagiclock.New(session),
	}
	if err := certmagic.ManageSync(ctx, []string{"example.com"}); err != nil {
		log.Print(err)
	}
}
