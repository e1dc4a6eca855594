package docs

import (
	"context"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

//nolint:errcheck // as programs are written
func withEtcdsPackage(ctx context.Context, client *clientv3.Client, work func(context.Context, int64) error) error {
	s, err := concurrency.NewSession(client, concurrency.WithTTL(15))
	if err != nil {
		return err
	}
	defer s.Close()
	m := concurrency.NewMutex(s, "orders/42")
	if err := m.Lock(ctx); err != nil {
		return err
	}
	defer m.Unlock(ctx)
	return work(ctx, m.Header().Revision) // goes on if the lock is lost
}

func withEtcdlock(ctx context.Context, client *clientv3.Client, work func(context.Context, int64) error) error {
	s, err := etcdlock.NewSession(ctx, client, etcdlock.WithTTL(15*time.Second)) // once for the process
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	return etcdlock.NewMutex(s, "orders/42").Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
		return work(ctx, lock.Token()) // ctx ends when the lock is lost
	})
}

// From client/v3/concurrency: tokens go on growing from one to the other.
func Example_concurrency() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()

	var last int64
	work := func(_ context.Context, token int64) error {
		fmt.Println("a larger token:", token > last)
		last = token
		return nil
	}
	if err := withEtcdsPackage(ctx, client, work); err != nil {
		log.Print(err)
	}
	if err := withEtcdlock(ctx, client, work); err != nil {
		log.Print(err)
	}
	// Output:
	// a larger token: true
	// a larger token: true
}
