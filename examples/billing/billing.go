// Package billing writes invoices. Several processes run it, and one at a time works. Its test is
// the example of docs/testing.md.
package billing

import (
	"context"
	"errors"
	"log"
	"time"

	"github.com/etcdlock/etcdlock"
)

// Store keeps the invoices. It refuses the token of an earlier holder of the lock.
type Store interface {
	Write(ctx context.Context, token int64) error
}

// Run writes an invoice every interval while this process holds the lock "billing". It waits for the
// lock, and waits again after a loss, until ctx or the session ends.
func Run(ctx context.Context, session *etcdlock.Session, store Store, interval time.Duration) error {
	mutex := etcdlock.NewMutex(session, "billing")
	for {
		err := mutex.Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
			return write(ctx, store, lock.Token(), interval)
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, etcdlock.ErrSessionClosed):
			return err
		}
		log.Printf("billing: lost the lock, and waits for it: %v", err)
	}
}

// write writes invoices until ctx ends.
func write(ctx context.Context, store Store, token int64, interval time.Duration) error {
	for {
		if err := store.Write(ctx, token); err != nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
