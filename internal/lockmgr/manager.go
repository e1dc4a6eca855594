// Package lockmgr is the lock manager of a session: it makes the requests for every name that the session
// locks, and waits for what etcd answers. It imports neither the session nor the root.
//
// What it knows is in package local: each step of a caller or a worker asks there what is to be done, does
// it, and reports what came of it. The functions here hold no mutex, and have the facts of one request in
// local values.
//
//	Manager one session's local.Table, and what it makes requests with
//	line    one local queue, for the functions that make requests for it
//	Hold    one acquisition, which the handles of the API embed
//
// A free lock is one request by its caller, and in a long queue the caller also waits (fastpath.go).
// Everything else that waits is done by one worker for each local queue (worker.go, enter.go).
package lockmgr

import (
	"context"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/adoption"
	"github.com/etcdlock/etcdlock/internal/ask"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lazyctx"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/names"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/sweeper"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Manager is the lock manager of a session. The session reports, by calls, what becomes of the lease
// and of the session: SetLease, Suspend, LeaseLost, Drain, Close. The manager calls the session only by
// the functions of Config.
type Manager struct {
	*local.Table
	*adoption.Former
	cfg      Config
	names    *names.Table
	sweeper  *sweeper.Sweeper
	requests *ask.Requests
}

// Config is what a manager is made with.
type Config struct {
	Life    context.Context  // ends with the session, with the cause
	Client  *clientv3.Client // distinguishes managers on one etcd from those on another; nothing is sent by it
	KV      clientv3.KV
	Leases  clientv3.Lease // lists the keys of a lease
	Writer  *etcdkv.Writer
	Queues  *queue.Queues
	Clock   func() time.Duration
	Log     *zap.Logger
	GivesUp bool // true: keys of the former process are deleted if no call asks for them in time

	// Insist sends a request until etcd gives an answer that counts, or ctx ends.
	Insist func(ctx context.Context, try func(context.Context) error) error
	// RevokeFormer revokes the lease that a Run of the former process had for a name, if there is one.
	RevokeFormer func(ctx context.Context, name string) (ended bool)
	// LeftBehind reports a key that a request without an answer may have left. It is called with a
	// mutex held, and does not block. It may be nil.
	LeftBehind func(name, key string)
	// Fail ends the session because of a bug. It may be called with any mutex held.
	Fail func(bug error)
}

// line is a local queue, for the functions that make requests for it.
type line struct {
	*Manager
	*local.Queue
}

func (m *Manager) line(l *local.Queue) line { return line{m, l} }

// awaitLease blocks until there is a lease that can be relied on. It fails with the cause if within
// or the session ends first.
func (m *Manager) awaitLease(within *lazyctx.Context) (*lease.Lease, error) {
	for {
		l, news := m.Lease()
		if l != nil && l.Err() == nil {
			return l, nil
		}
		select {
		case <-news:
		case <-within.Context().Done():
			return nil, within.Cause()
		case <-m.cfg.Life.Done():
			return nil, m.err()
		}
	}
}

// err is why the session has ended; nil while it has not.
func (m *Manager) err() error { return context.Cause(m.cfg.Life) }

// dropSlot gives up a key of which nothing is left in etcd, or which is uncertain. A private local
// queue keeps its keys for as long as it lives.
func (l line) dropSlot(slot wire.Slot) {
	if !l.Private() {
		l.DropSlot(l.Name(), slot)
	}
}

// suspect makes the key of a slot uncertain, or the keys of a local queue for several names; see
// Sweeper.SuspectAll.
func (l line) suspect(ls *lease.Lease, slot wire.Slot, requests int, first time.Duration) {
	slots := []wire.Slot{slot}
	if l.Several() {
		slots = l.Slots()
	}
	l.sweeper.SuspectAll(ls, l.Names(), slots, requests, first)
}
