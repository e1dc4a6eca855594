// Package fencesql checks fencing tokens in a SQL database, in the transaction that writes.
//
//	err := fencesql.PostgreSQL.Tx(lock.Context(), db, nil, "accounts/7", fence.Of(lock, 0), func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = $1 WHERE id = 7", balance)
//		return err
//	})
//
// The table etcdlock_fence has a row for each resource with the newest token that claimed it. A
// check locks this row until its transaction ends, so a claim and the writes after it are one step. No
// newer token can come between them, at any isolation level.
//
// Rows of the table are never deleted, because a deleted row lets every old token in again. This
// package imports no driver.
package fencesql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/etcdlock/etcdlock/fence"
)

// Dialect is the kind of a database.
type Dialect int

const (
	// PostgreSQL is version 9.5 or later. Its placeholders are $1, $2, $3.
	PostgreSQL Dialect = iota + 1
	// MySQL is MySQL 5.7 or later and MariaDB 10.2 or later, with InnoDB.
	MySQL
	// SQLite is version 3.35 or later.
	SQLite
)

var errDialect = errors.New("fencesql: unknown dialect: use PostgreSQL, MySQL or SQLite")

// Schema returns the statement that creates the table if there is none. It belongs in the
// migrations of the program. Epoch and token are 64-bit integers, as revisions of etcd are.
func (d Dialect) Schema() string {
	switch d {
	case PostgreSQL:
		return "CREATE TABLE IF NOT EXISTS etcdlock_fence (resource text PRIMARY KEY, epoch bigint NOT NULL, token bigint NOT NULL)"
	case MySQL:
		// Bytes, because most collations take "a" and "A" for one name. MyISAM has no transactions.
		return "CREATE TABLE IF NOT EXISTS etcdlock_fence (resource varbinary(512) PRIMARY KEY, epoch bigint NOT NULL, token bigint NOT NULL) ENGINE=InnoDB"
	case SQLite:
		return "CREATE TABLE IF NOT EXISTS etcdlock_fence (resource text PRIMARY KEY NOT NULL, epoch integer NOT NULL, token integer NOT NULL)"
	}
	return ""
}

// Check claims the resource for the token in tx, before tx reads or writes anything else. It blocks
// while another transaction has claimed the same resource and has not ended. After nil, tx holds
// the row of the resource: every older token waits for the end of tx, and is refused if tx commits.
//
// A refused token gives a [*fence.Stale]. After any error the caller rolls tx back. An error that
// [Dialect.Retryable] accepts is cured by another transaction with the same token.
func (d Dialect) Check(ctx context.Context, tx *sql.Tx, resource string, token fence.Token) error {
	if err := fence.Valid(resource, token); err != nil {
		return err
	}
	var seen fence.Token
	var err error
	switch d {
	case PostgreSQL, SQLite:
		seen, err = upsert(ctx, tx, claims[d], reads[d], resource, token)
	case MySQL:
		seen, err = raise(ctx, tx, resource, token)
	default:
		return errDialect
	}
	if err != nil {
		return fmt.Errorf("fencesql: check %q: %w", resource, err)
	}
	if token.Less(seen) {
		return &fence.Stale{Resource: resource, Token: token, Seen: seen}
	}
	return nil
}

const claim = `INSERT INTO etcdlock_fence AS f (resource, epoch, token) VALUES (%s)
ON CONFLICT (resource) DO UPDATE SET epoch = excluded.epoch, token = excluded.token
WHERE (f.epoch, f.token) <= (excluded.epoch, excluded.token) RETURNING epoch, token`

var (
	claims = map[Dialect]string{
		PostgreSQL: fmt.Sprintf(claim, "$1, $2, $3"),
		SQLite:     fmt.Sprintf(claim, "?, ?, ?"),
	}
	reads = map[Dialect]string{
		PostgreSQL: "SELECT epoch, token FROM etcdlock_fence WHERE resource = $1",
		SQLite:     "SELECT epoch, token FROM etcdlock_fence WHERE resource = ?",
	}
)

// upsert claims by one statement, which returns no row if a newer token is there. It returns the
// token that is there now.
func upsert(ctx context.Context, tx *sql.Tx, claim, read, resource string, token fence.Token) (seen fence.Token, err error) {
	err = tx.QueryRowContext(ctx, claim, resource, token.Epoch, token.Value).Scan(&seen.Epoch, &seen.Value)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, read, resource).Scan(&seen.Epoch, &seen.Value)
	}
	return seen, err
}

// MySQL has no condition on the update of an upsert. The assignments are made from left to right,
// so the first one sees the old epoch. If the token is stale, the old epoch is not smaller than its
// own and both columns stay.
const (
	raiseRow = `INSERT INTO etcdlock_fence (resource, epoch, token) VALUES (?, ?, ?)
ON DUPLICATE KEY UPDATE token = IF((epoch, token) <= (?, ?), ?, token), epoch = GREATEST(epoch, ?)`
	// A locking read: a plain one would read the snapshot of the transaction.
	readRow = "SELECT epoch, token FROM etcdlock_fence WHERE resource = ? FOR UPDATE"
)

// raise sets the row to the newer one of its token and the given one, and returns the result. The
// count of affected rows depends on the connection's clientFoundRows, so the row is read.
func raise(ctx context.Context, tx *sql.Tx, resource string, token fence.Token) (seen fence.Token, err error) {
	e, v := token.Epoch, token.Value
	if _, err := tx.ExecContext(ctx, raiseRow, resource, e, v, e, v, v, e); err != nil {
		return seen, err
	}
	err = tx.QueryRowContext(ctx, readRow, resource).Scan(&seen.Epoch, &seen.Value)
	return seen, err
}

// Tx runs fn in a transaction that has claimed the resource for the token, and commits it. If the
// database ends the transaction because of a conflict, Tx begins another one with the same token and
// calls fn again. Therefore fn must not have effects outside of its transaction. ctx is the context of
// the hold: Tx tries again until ctx ends. opts may be nil.
//
// Tx returns what fn returns, after a rollback, or
//
//   - a [*fence.Stale] if a newer token has claimed the resource; nothing was written,
//   - an error that matches the cause of ctx if ctx ended first,
//   - the error of the database. If the connection broke during the commit, the writes may have
//     been made.
func (d Dialect) Tx(ctx context.Context, db *sql.DB, opts *sql.TxOptions, resource string, token fence.Token, fn func(tx *sql.Tx) error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := d.try(ctx, db, opts, resource, token, fn)
		if err == nil || !d.Retryable(err) && ctx.Err() == nil {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return fmt.Errorf("fencesql: write to %q: %w (last error: %w)", resource, context.Cause(ctx), err)
		}
	}
}

// The pauses between two tries.
const (
	firstPause = time.Millisecond
	lastPause  = 100 * time.Millisecond
)

func (d Dialect) try(ctx context.Context, db *sql.DB, opts *sql.TxOptions, resource string, token fence.Token, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit; also if fn panics
	if err := d.Check(ctx, tx, resource, token); err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Checker returns a [fence.Checker] that claims in a transaction of its own. It is for a server
// with effects outside of this database: the claims outlive the server and are shared by its
// replicas. A newer token can come between the check and the effect.
func (d Dialect) Checker(db *sql.DB) fence.Checker { return checker{d, db} }

type checker struct {
	dialect Dialect
	db      *sql.DB
}

func (c checker) Check(ctx context.Context, resource string, token fence.Token) error {
	return c.dialect.Tx(ctx, c.db, nil, resource, token, func(*sql.Tx) error { return nil })
}
