package main

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// Neither of Redis' libraries has a queue. A waiter polls, here every millisecond, which is
// the shortest sensible time, and the first to poll acquires the lock.
const redisRetry = time.Millisecond

func redisContestants(mode, durable string, address func(servers) string) []contestant {
	dial := func(make func(*redis.Client) session) func(context.Context, servers) (link, error) {
		return func(ctx context.Context, where servers) (link, error) {
			client := redis.NewClient(&redis.Options{Addr: address(where), PoolSize: 128})
			return &redisLink{client, make}, client.Ping(ctx).Err()
		}
	}
	return []contestant{
		{
			key: "redsync, " + mode, about: "github.com/go-redsync/redsync/v4 on one Redis", durable: durable, asks: true,
			dial: dial(func(c *redis.Client) session { return redsyncSession{redsync.New(redsyncpool.NewPool(c))} }),
		},
		{
			key: "redislock, " + mode, about: "github.com/bsm/redislock", durable: durable, asks: true,
			dial: dial(func(c *redis.Client) session { return redislockSession{redislock.New(c)} }),
		},
	}
}

type redisLink struct {
	client *redis.Client
	make   func(*redis.Client) session
}

func (l *redisLink) session(context.Context, time.Duration) (session, error) {
	return l.make(l.client), nil
}

func (l *redisLink) close() { _ = l.client.Close() }

type redsyncSession struct{ r *redsync.Redsync }

func (s redsyncSession) close() {}

func (s redsyncSession) mutex(name string) mutex {
	return redsyncMutex{s.r.NewMutex(name, redsync.WithExpiry(sessionTTL), redsync.WithTries(1_000_000), redsync.WithRetryDelay(redisRetry))}
}

type redsyncMutex struct{ m *redsync.Mutex }

func (m redsyncMutex) lock(ctx context.Context) (hold, error) { return m, m.m.LockContext(ctx) }
func (m redsyncMutex) token() int64                           { return 0 }

func (m redsyncMutex) unlock(ctx context.Context) error {
	ok, err := m.m.UnlockContext(ctx)
	if err == nil && !ok {
		err = errNotHeld
	}
	return err
}

var errNotHeld = errors.New("it was not held any more")

type redislockSession struct{ c *redislock.Client }

func (s redislockSession) close()                  {}
func (s redislockSession) mutex(name string) mutex { return redislockMutex{s.c, name} }

type redislockMutex struct {
	c    *redislock.Client
	name string
}

func (m redislockMutex) lock(ctx context.Context) (hold, error) {
	l, err := m.c.Obtain(ctx, m.name, sessionTTL, &redislock.Options{RetryStrategy: redislock.LinearBackoff(redisRetry)})
	if err != nil {
		return nil, err
	}
	return redislockHold{l}, nil
}

type redislockHold struct{ l *redislock.Lock }

func (h redislockHold) token() int64                     { return 0 }
func (h redislockHold) unlock(ctx context.Context) error { return h.l.Release(ctx) }
