package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencesql"
	"github.com/etcdlock/etcdlock/test/fence/dbserver"
)

// plan is one run: writers that stall against one database.
type plan struct {
	db     *dbserver.Database
	level  level
	checks bool // false takes Check out
	writes int64
}

const (
	writers   = 16
	resources = 8
	// A hold ends after this time, as a lock's does, whether its holder has noticed or not.
	holdTime = 20 * time.Millisecond
	// Of 1,000 writes so many stall before the transaction begins, and so many between the check and
	// the write.
	stallsBefore, stallsWithin = 10, 10
	writesPerHold              = 4
)

// outcome is what a run came to.
type outcome struct {
	written int64 // committed
	refused int64 // with ErrStale
	stale   int64 // writes over one with a newer token, counted by the database
	lost    int64 // holds that ended while their holder went on
	retries int64
	took    time.Duration
}

// resource is one lock: it is granted to one writer at a time until the hold ends.
type resource struct {
	mu    sync.Mutex
	until time.Time // the end of the hold; zero while free. Guarded by mu.
	token int64     // of the last hold; guarded by mu
}

// try grants the lock if it is free or its hold is over.
func (r *resource) try(now time.Time) (token int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.until) {
		return 0, false
	}
	r.token++
	r.until = now.Add(holdTime)
	return r.token, true
}

// release frees the lock and tells whether the hold still stood.
func (r *resource) release(token int64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.token != token {
		return false
	}
	r.until = time.Time{}
	return true
}

// run is the state of one plan that its writers share.
type run struct {
	plan
	conns     *sql.DB
	resources [resources]resource
	left      atomic.Int64
	out       outcome // its counters are used atomically
}

// Tables: data counts the writes that come after one with a newer token. Its UPDATE reads and
// writes the row in one step and knows nothing of the fence.
const update = `UPDATE data SET stale = stale + CASE WHEN ? < token THEN 1 ELSE 0 END, token = ?, writes = writes + 1 WHERE id = ?`

func execute(ctx context.Context, p plan) (outcome, error) {
	conns, err := p.db.Open()
	if err != nil {
		return outcome{}, err
	}
	defer conns.Close()
	conns.SetMaxOpenConns(writers)
	conns.SetMaxIdleConns(writers)
	r := &run{plan: p, conns: conns}
	r.left.Store(p.writes)
	if err := r.prepare(ctx); err != nil {
		return outcome{}, err
	}
	began := time.Now()
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { errs[i] = r.write(ctx) })
	}
	wg.Wait()
	r.out.took = time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return r.out, err
	}
	var written int64
	err = conns.QueryRowContext(ctx, "SELECT SUM(writes), SUM(stale) FROM data").Scan(&written, &r.out.stale)
	if err == nil && written != r.out.written {
		err = fmt.Errorf("the database has %d writes, and %d were committed", written, r.out.written)
	}
	return r.out, err
}

func (r *run) prepare(ctx context.Context) error {
	statements := []string{
		"DROP TABLE IF EXISTS etcdlock_fence", "DROP TABLE IF EXISTS data", r.db.Dialect.Schema(),
		"CREATE TABLE data (id integer PRIMARY KEY, token bigint NOT NULL, writes bigint NOT NULL, stale bigint NOT NULL)",
	}
	if r.level.prepare != "" {
		statements = append([]string{r.level.prepare}, statements...)
	}
	for i := range resources {
		statements = append(statements, fmt.Sprintf("INSERT INTO data VALUES (%d, 0, 0, 0)", i))
	}
	for _, statement := range statements {
		if _, err := r.conns.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// write takes one hold after the other until all writes are made.
func (r *run) write(ctx context.Context) error {
	for r.left.Load() > 0 {
		i := rand.IntN(resources)
		token, ok := r.resources[i].try(time.Now())
		if !ok {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		for range writesPerHold {
			if r.left.Add(-1) < 0 {
				break
			}
			if err := r.one(ctx, i, token); err != nil {
				return err
			}
		}
		if !r.resources[i].release(token, time.Now()) {
			atomic.AddInt64(&r.out.lost, 1)
		}
	}
	return nil
}

// stall stands still past the end of the hold, with a chance of perMille.
func stall(perMille int) {
	if rand.IntN(1000) < perMille {
		time.Sleep(holdTime + rand.N(holdTime))
	}
}

// one makes one write, as a holder that does not look at its hold.
func (r *run) one(ctx context.Context, i int, token int64) error {
	stall(stallsBefore)
	tries := int64(-1)
	set := func(tx *sql.Tx) error {
		tries++
		stall(stallsWithin)
		_, err := tx.ExecContext(ctx, placeholders(r.db.Dialect, update), token, token, i)
		return err
	}
	var err error
	if r.checks {
		name := fmt.Sprintf("accounts/%d", i)
		err = r.db.Dialect.Tx(ctx, r.conns, &sql.TxOptions{Isolation: r.level.isolation}, name, fence.Token{Value: token}, set)
	} else {
		err = r.unchecked(ctx, set)
	}
	atomic.AddInt64(&r.out.retries, max(tries, 0))
	switch {
	case err == nil:
		atomic.AddInt64(&r.out.written, 1)
	case errors.Is(err, fence.ErrStale):
		atomic.AddInt64(&r.out.refused, 1)
	default:
		return err
	}
	return nil
}

// unchecked is [fencesql.Dialect.Tx] without the check.
func (r *run) unchecked(ctx context.Context, set func(*sql.Tx) error) error {
	for {
		tx, err := r.conns.BeginTx(ctx, &sql.TxOptions{Isolation: r.level.isolation})
		if err == nil {
			err = set(tx)
		}
		if err == nil {
			err = tx.Commit()
		} else if tx != nil {
			_ = tx.Rollback()
		}
		if !r.db.Dialect.Retryable(err) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// placeholders writes $1, $2, ... for ? where the database wants it.
func placeholders(d fencesql.Dialect, statement string) string {
	if d != fencesql.PostgreSQL {
		return statement
	}
	parts := strings.Split(statement, "?")
	for i := range parts[1:] {
		parts[i+1] = fmt.Sprintf("$%d%s", i+1, parts[i+1])
	}
	return strings.Join(parts, "")
}
