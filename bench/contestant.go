package main

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// The rows that others are compared with, and the one that it is about.
const (
	theFloor   = "floor"
	theMutex   = "mutex"
	theLibrary = "etcdlock"
	theControl = "mutex, again"
)

// contestant is a library that locks, with the server that it locks on.
type contestant struct {
	key   string
	about string
	// durable says what a crash of the server, or of most of them, leaves of a lock.
	durable string
	// sessionEach: callers that share a session do not exclude each other, so that
	// each caller must have its own.
	sessionEach bool
	// tokens: its holds have fencing tokens, which the referee checks.
	tokens bool
	// asks is true if a waiter polls.
	asks bool
	dial func(ctx context.Context, where servers) (link, error)
}

// servers says where they are. It travels to the workers.
type servers struct {
	Etcd      []string `json:"etcd"`
	RedisSafe string   `json:"redis_safe,omitempty"` // appendfsync always
	RedisFast string   `json:"redis_fast,omitempty"` // nothing written
	Postgres  string   `json:"postgres,omitempty"`
	ZooKeeper string   `json:"zookeeper,omitempty"`
}

// link is a client's connection; its sessions share it.
type link interface {
	session(ctx context.Context, ttl time.Duration) (session, error)
	close()
}

// session is what a process has one of, or each caller if need be.
type session interface {
	// mutex is for one caller.
	mutex(name string) mutex
	close()
}

type mutex interface {
	lock(ctx context.Context) (hold, error)
}

// tryMutex is a mutex that can be tried; errTaken is the refusal.
type tryMutex interface {
	mutex
	tryLock(ctx context.Context) (hold, error)
}

var errTaken = errors.New("taken")

// candidate is a session that can campaign.
type candidate interface {
	campaign(ctx context.Context, name string) (hold, error)
}

// leased is a session that stands on a lease of etcd.
type leased interface {
	lease() clientv3.LeaseID
}

// hold is one acquisition.
type hold interface {
	token() int64 // 0 without tokens
	unlock(ctx context.Context) error
}

// sessionTTL is so long that a starved process does not lose its session.
const sessionTTL = 30 * time.Second

// onEtcd are the contestants that the etcd cluster alone is enough for. The order is
// that of tables and pictures.
func onEtcd() []contestant {
	const durable = "every lock is committed to the raft log, synced to disk by a majority"
	return []contestant{
		{
			key: theMutex, about: "go.etcd.io/etcd/client/v3/concurrency", durable: durable,
			sessionEach: true, tokens: true, dial: etcdDialer(concurrencySession),
		},
		{
			key: theLibrary, about: "github.com/etcdlock/etcdlock", durable: durable,
			tokens: true, dial: etcdDialer(etcdlockSession()),
		},
	}
}

// variants are etcdlock with an option, for the suites that ask for them.
func variants() []contestant {
	return []contestant{
		{
			key: theStrict, about: "etcdlock with WithTimeSlice(0): no handover in memory", durable: "as etcdlock",
			tokens: true, dial: etcdDialer(etcdlockSession(etcdlock.WithTimeSlice(0))),
		},
		{
			key: theRetainer, about: "etcdlock with WithRetention",
			durable: "as etcdlock; while the key is kept, its process locks again in memory",
			tokens:  true, dial: etcdDialer(etcdlockSession(etcdlock.WithRetention(retentionIdle))),
		},
	}
}

const (
	theStrict     = "etcdlock, strict turns"
	theRetainer   = "etcdlock, retention"
	retentionIdle = 10 * time.Second
)

// everybody has all contestants that a worker can run.
func everybody() map[string]contestant {
	all := map[string]contestant{}
	for _, list := range [][]contestant{onEtcd(), variants(), onOthers(servers{}, true)} {
		for _, c := range list {
			all[c.key] = c
		}
	}
	return all
}
