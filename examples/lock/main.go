// Command lock shows a critical section that stays correct even when its holder
// loses the lock without noticing.
//
//	go run ./lock
//	go run ./lock -endpoints localhost:2379
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
)

// The data is not under the lock's name, because every key there is an entry of the queue.
const (
	lockName   = "examples/account"
	balanceKey = "examples/balance"
)

func main() {
	endpoints := flag.String("endpoints", "", "etcd endpoints, separated by commas (default: an etcd inside this program)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *endpoints); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, endpoints string) error {
	client, closeClient, err := devetcd.Connect(ctx, endpoints)
	if err != nil {
		return err
	}
	defer closeClient()

	// A process needs one session, for any number of locks. The two here stand
	// for two processes.
	alice, closeAlice, err := devetcd.NewSession(ctx, client, etcdlock.WithOwner("alice"))
	if err != nil {
		return err
	}
	defer closeAlice()
	bob, closeBob, err := devetcd.NewSession(ctx, client, etcdlock.WithOwner("bob"))
	if err != nil {
		return err
	}
	defer closeBob()

	return errors.Join(fencedByTheResource(ctx, client, alice, bob), fencedByEtcd(ctx, client, bob))
}

// fencedByTheResource: the resource is outside etcd and checks the token.
func fencedByTheResource(ctx context.Context, client *clientv3.Client, alice, bob *etcdlock.Session) error {
	acct := &account{balance: 100}

	lock, err := etcdlock.NewMutex(alice, lockName).Lock(ctx)
	if err != nil {
		return err
	}
	// Work with the lock's context, not with ctx: it ends with the lock.
	acct.withdraw(lock.Context(), "alice", lock.Token(), 30)

	// Alice loses her lease. Usually that takes a network that is away for
	// longer than the TTL; here an administrator revokes it.
	if _, err := client.Revoke(ctx, alice.Lease()); err != nil {
		return err
	}
	<-lock.Done()
	fmt.Println("alice is told:", context.Cause(lock.Context()))

	// Do locks, calls the function with the lock's context, and unlocks.
	err = etcdlock.NewMutex(bob, lockName).Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
		acct.withdraw(ctx, "bob", lock.Token(), 50)
		return nil
	})

	// A late write: what alice would do had she stood still all the while. So
	// that it gets as far as the account, it does not heed the lock's context.
	acct.withdraw(ctx, "alice", lock.Token(), 30)
	return err
}

// fencedByEtcd: the data is in etcd, which checks the lock in the transaction
// that writes. Nothing can come between the check and the write.
func fencedByEtcd(ctx context.Context, client *clientv3.Client, bob *etcdlock.Session) error {
	lock, err := etcdlock.NewMutex(bob, lockName).Lock(ctx)
	if err != nil {
		return err
	}
	resp, err := client.Txn(lock.Context()).If(lock.Guard()).Then(clientv3.OpPut(balanceKey, "20")).Commit()
	if err != nil {
		return errors.Join(err, lock.Unlock(ctx))
	}
	fmt.Println("bob writes 20 to etcd: written", resp.Succeeded)

	if err := lock.Unlock(ctx); err != nil {
		return err
	}
	resp, err = client.Txn(ctx).If(lock.Guard()).Then(clientv3.OpPut(balanceKey, "10")).Commit()
	if err != nil {
		return err
	}
	fmt.Println("bob writes 10 to etcd after Unlock: written", resp.Succeeded)
	return nil
}
