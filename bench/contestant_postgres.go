package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// postgresContestant is PostgreSQL's advisory locks of a session: a connection of the
// pool holds the lock, and waits for it.
func postgresContestant() contestant {
	return contestant{
		key: "postgres", about: "pg_advisory_lock, through pgx",
		durable: "nothing: the locks are in the memory of one server, and end with the connection",
		dial: func(ctx context.Context, where servers) (link, error) {
			config, err := pgxpool.ParseConfig(where.Postgres)
			if err != nil {
				return nil, err
			}
			config.MaxConns = 128
			pool, err := pgxpool.NewWithConfig(ctx, config)
			if err != nil {
				return nil, err
			}
			return postgresLink{pool}, pool.Ping(ctx)
		},
	}
}

// ownPostgres tells whether the server answers, and whether it is the one on that data.
func ownPostgres(ctx context.Context, where, data string) error {
	conn, err := pgx.Connect(ctx, where)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "show data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != data {
		return fmt.Errorf("%w: its data lies in %s", etcdproc.ErrForeign, dir)
	}
	return nil
}

type postgresLink struct{ pool *pgxpool.Pool }

func (l postgresLink) session(context.Context, time.Duration) (session, error) {
	return postgresSession(l), nil
}

// close bounds the wait for a lock that was not released.
func (l postgresLink) close() {
	closed := make(chan struct{})
	go func() { l.pool.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

type postgresSession struct{ pool *pgxpool.Pool }

func (s postgresSession) close() {}

func (s postgresSession) mutex(name string) mutex {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return postgresMutex{s.pool, int64(h.Sum64())}
}

type postgresMutex struct {
	pool *pgxpool.Pool
	key  int64
}

func (m postgresMutex) lock(ctx context.Context) (hold, error) {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", m.key); err != nil {
		conn.Release() // cut short, it is closed, not used again
		return nil, err
	}
	return postgresHold{conn, m.key}, nil
}

func (m postgresMutex) tryLock(ctx context.Context) (hold, error) {
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var ok bool
	if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", m.key).Scan(&ok); err != nil || !ok {
		conn.Release()
		if err == nil {
			err = errTaken
		}
		return nil, err
	}
	return postgresHold{conn, m.key}, nil
}

type postgresHold struct {
	conn *pgxpool.Conn
	key  int64
}

func (h postgresHold) token() int64 { return 0 }

func (h postgresHold) unlock(ctx context.Context) error {
	defer h.conn.Release()
	var ok bool
	err := h.conn.QueryRow(ctx, "select pg_advisory_unlock($1)", h.key).Scan(&ok)
	if err == nil && !ok {
		err = errNotHeld
	}
	return err
}
