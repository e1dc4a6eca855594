package main

import (
	"context"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/history"
)

// A workload is what clients do: acquire, hold, release. Each kind of it is done with
// each library that has it; a new primitive is an entry in kinds and one in the kinds
// of its library.

// kind is a primitive with its rule: the weights of all holders at one time are at most the capacity.
type kind struct {
	name     string
	capacity int
	weight   func() int // of the next hold
	model    history.Model
}

var kinds = []kind{
	{"mutex", 1, func() int { return 1 }, history.Mutex},
	{"election", 1, func() int { return 1 }, history.Election},
	{"run", 1, func() int { return 1 }, history.Election},                      // the work of Election.Run
	{"rwmutex", slots, func() int { return either(1, slots) }, history.Shared}, // a writer fills it
	{"semaphore", permits, func() int { return 1 + rand.IntN(permits) }, history.Semaphore(permits)},
}

const permits = 2

func either(a, b int) int {
	if rand.IntN(2) == 0 {
		return a
	}
	return b
}

// library makes sessions on a client.
type library struct {
	name string
	open func(ctx context.Context, c *clientv3.Client, ttl time.Duration) (session, error)
	has  func(kind string) bool
}

// The libraries: what is tested, and the control.
var (
	ours    = library{"etcdlock", openEtcdlock, func(k string) bool { return etcdlockKinds[k] != nil }}
	control = library{"etcd", openConcurrency, func(k string) bool { return concurrencyKinds[k] != nil }}

	libraries = []library{ours, control}
)

type session interface {
	acquire(ctx context.Context, kind, name string, weight int) (hold, error)
	ended() <-chan struct{} // of no use any more: a new one is needed
	close(ctx context.Context) error
}

type hold interface {
	token() int64
	key() string
	lost() <-chan struct{} // closed when the library tells that it is no longer held
	why() error            // then; nil where the library does not say
	release(ctx context.Context) error
}
