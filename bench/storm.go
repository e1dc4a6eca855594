package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock"
)

// longestPause is the longest time in which no client held, in a crowd that waits all the time.
const longestPause = "longest pause"

// longestAnswer is the longest time that etcd took to answer a client beside a storm, in the mean of a read and a write.
// A pause that is not longer comes from the machine.
const longestAnswer = "longest answer"

// storms are crowds of clients with short deadlines, which give up and come again at once. Half of the
// sessions end and come again, too. In the second storm one client in eight is of etcd's own library, and an
// administrator deletes the keys of waiters.
func storms() []crowd {
	guests := crowd{processes: 3, callers: 8, clients: true, patience: 200 * time.Millisecond}
	disturbed := guests
	disturbed.disturbed = true
	return []crowd{guests, disturbed}
}

// visits is how many attempts a session of a storm makes before it ends.
const visits = 20

// storm measures how long a name stays free in a storm. Each crowd lasts longer than others, because a long
// pause is rare.
func storm(ctx context.Context, b *bench) error {
	long := *b
	long.span = b.storms
	return contend(ctx, &long, "storm", storms(), b.onEtcdOnly(), nil)
}

// pause returns the longest time from a time to another one in which there was no stay. The stays are sorted
// by their start.
func pause(stays []stay, from, until int64) time.Duration {
	longest, last := int64(0), from
	for _, s := range stays {
		longest, last = max(longest, s.Start-last), max(last, s.End)
	}
	return time.Duration(max(longest, until-last))
}

// attempt is one lock of a caller. It returns neither a hold nor an error if the caller has given up, because its
// patience has ended, which is a random part of that of the order, or because its key was deleted.
func (c *caller) attempt(waits context.Context, o order) (hold, error) {
	if o.Patience == 0 {
		return c.mutex.lock(waits)
	}
	ctx, cancel := context.WithTimeout(waits, rand.N(o.Patience))
	defer cancel()
	h, err := c.mutex.lock(ctx)
	if ends(err) {
		return nil, nil
	}
	return h, err
}

// ends reports whether an error is that of a deadline, or of a key that was deleted. etcd has an error of its own for a
// deadline that was sent along.
func ends(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded || errors.Is(err, rpctypes.ErrTimeout) ||
		errors.Is(err, etcdlock.ErrEvicted) || errors.Is(err, concurrency.ErrSessionExpired)
}

// evictions is the pause between two deletions by the administrator of a storm.
const evictions = 30 * time.Millisecond

// observer is a client beside a storm. It is the administrator, if evicts is true.
type observer struct {
	client *clientv3.Client
	queue  string
	evicts bool
	slow   time.Duration // the longest time that etcd took for an answer
}

// observe asks etcd again and again, until ctx ends.
func (o *observer) observe(ctx context.Context) error {
	for ctx.Err() == nil {
		time.Sleep(evictions)
		began := time.Now()
		err := o.ask(ctx)
		o.slow = max(o.slow, time.Since(began)/2) // for two requests
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// ask reads the queue, and deletes the key of a random waiter. It does so only while the holder stands that it
// has seen, so it deletes the key of no holder.
func (o *observer) ask(ctx context.Context) error {
	queue, err := o.client.Get(ctx, o.queue+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return err
	}
	if !o.evicts || len(queue.Kvs) < 2 {
		_, err = o.client.Put(ctx, o.queue+".beside", "")
		return err
	}
	waiter := queue.Kvs[1+rand.N(len(queue.Kvs)-1)]
	_, err = o.client.Txn(ctx).If(stands(queue.Kvs[0]), stands(waiter)).Then(clientv3.OpDelete(string(waiter.Key))).Commit()
	return err
}

func stands(kv *mvccpb.KeyValue) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(string(kv.Key)), "=", kv.CreateRevision)
}
