package main

import (
	"context"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
)

// zookeeperContestant is the lock recipe of ZooKeeper's Go client. It has a queue, in which
// each waiter watches the entry ahead. The number of the holder's node could be a token, but
// the library does not export it.
func zookeeperContestant() contestant {
	return contestant{
		key: "zookeeper", about: "github.com/go-zookeeper/zk, its Lock",
		durable: "one server; every lock and session is in its transaction log, synced to disk (forceSync)",
		dial: func(_ context.Context, where servers) (link, error) {
			return zookeeperLink(where.ZooKeeper), nil
		},
	}
}

// zookeeperLink is the server's address: in ZooKeeper a connection is a session.
type zookeeperLink string

func (zookeeperLink) close() {}

func (l zookeeperLink) session(ctx context.Context, ttl time.Duration) (session, error) {
	conn, events, err := zk.Connect([]string{string(l)}, ttl, zk.WithLogger(nowhere{}))
	if err != nil {
		return nil, err
	}
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return zookeeperSession{conn}, nil
			}
		case <-ctx.Done():
			conn.Close()
			return nil, fmt.Errorf("zookeeper at %s gives no session: %w", l, ctx.Err())
		}
	}
}

type nowhere struct{}

func (nowhere) Printf(string, ...any) {}

type zookeeperSession struct{ conn *zk.Conn }

func (s zookeeperSession) close() { s.conn.Close() }

func (s zookeeperSession) mutex(name string) mutex { return zookeeperMutex{s.conn, "/" + name} }

type zookeeperMutex struct {
	conn *zk.Conn
	path string
}

// lock returns at the end of ctx, which the library does not know. The waiter's entry stays
// in the queue until its turn, and is then released, or until the session ends.
func (m zookeeperMutex) lock(ctx context.Context) (hold, error) {
	l := zk.NewLock(m.conn, m.path, zk.WorldACL(zk.PermAll))
	locked := make(chan error, 1)
	go func() { locked <- l.Lock() }()
	select {
	case err := <-locked:
		if err != nil {
			return nil, err
		}
		return zookeeperHold{l}, nil
	case <-ctx.Done():
	}
	go func() {
		if err := <-locked; err == nil {
			_ = l.Unlock() // it fails at the end of the session, which has done it then
		}
	}()
	return nil, ctx.Err()
}

type zookeeperHold struct{ l *zk.Lock }

func (h zookeeperHold) token() int64                 { return 0 }
func (h zookeeperHold) unlock(context.Context) error { return h.l.Unlock() }
