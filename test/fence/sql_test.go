package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencesql"
	"github.com/etcdlock/etcdlock/test/fence/dbserver"
)

// Pitfall 1: equal tokens are accepted.
func TestAHolderWritesMoreThanOnceAndAnOlderOneIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
		require.NoError(t, older.set(90))
		require.NoError(t, older.set(80))
		require.NoError(t, newer.set(70))
		err := older.set(1)
		require.ErrorIs(t, err, fence.ErrStale)
		var stale *fence.Stale
		require.ErrorAs(t, err, &stale)
		require.Equal(t, &fence.Stale{Resource: account, Token: older.token, Seen: newer.token}, stale)
		require.NoError(t, newer.set(60), "the refusal changed nothing")
		require.Equal(t, 60, balance(t, db))
	})
}

// lib/pq reports its errors by another type than pgx does.
func TestPostgreSQLByTheOtherDriver(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		if d.Dialect != fencesql.PostgreSQL {
			t.Skip("another database")
		}
		other, err := sql.Open("postgres", d.DSN)
		require.NoError(t, err)
		defer other.Close()
		require.NoError(t, holderOf(t, d, other, 9).set(70))
		require.ErrorIs(t, holderOf(t, d, other, 5).set(1), fence.ErrStale)
		conflict(t, d, other)
	})
}

// Pitfall 2: a holder that reads before it claims can build on what its predecessor replaces.
func TestAHolderThatClaimsBeforeItReadsLosesNoUpdate(t *testing.T) {
	for _, claims := range []bool{true, false} {
		onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
			older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
			require.NoError(t, older.claim())
			if claims {
				require.NoError(t, newer.claim())
			}
			read := balance(t, db)
			late := older.set(50) // it had stalled
			require.NoError(t, newer.set(read-10))
			if claims {
				require.ErrorIs(t, late, fence.ErrStale)
			} else {
				require.NoError(t, late, "its update was made, and is overwritten")
			}
			require.Equal(t, 90, balance(t, db))
		})
	}
}

// Pitfall 3: a newer token comes between a check and an effect in two transactions, and waits for
// both if they are one.
func TestTheCheckAndTheWriteAreOneTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
		require.NoError(t, d.Dialect.Checker(db).Check(t.Context(), account, older.token))
		require.NoError(t, newer.set(70))
		_, err := db.ExecContext(t.Context(), "UPDATE accounts SET balance = 1 WHERE id = 7")
		require.NoError(t, err)
		require.Equal(t, 1, balance(t, db), "the stale write was made")
	})
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
		written := make(chan error, 1)
		require.NoError(t, older.tx(func(tx *sql.Tx) error {
			go func() { written <- newer.set(70) }()
			select {
			case err := <-written:
				return errors.Join(errors.New("the newer token did not wait"), err)
			case <-time.After(200 * time.Millisecond):
			}
			return setBalance(t.Context(), tx, 1)
		}))
		require.NoError(t, <-written)
		require.Equal(t, 70, balance(t, db), "the newer write is the last one")
	})
}

// Pitfall 3: the same transaction fails and is tried again with the same token.
func TestAConflictIsTriedAgainWhileTheHoldStands(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) { conflict(t, d, db) })
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		lost := errors.New("the lock is lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		calls := 0
		err := d.Dialect.Tx(ctx, db, nil, account, fence.Token{Value: 5}, func(*sql.Tx) error {
			if calls++; calls == 3 {
				cancel(lost)
			}
			return conflictOf(d)
		})
		require.ErrorIs(t, err, lost)
		require.Equal(t, 3, calls)
		require.Zero(t, db.Stats().InUse)
	})
}

// conflictOf is the error of a conflict as the driver returns it.
func conflictOf(d *dbserver.Database) error {
	switch d.Dialect {
	case fencesql.PostgreSQL:
		return &pgconn.PgError{Code: "40001"}
	case fencesql.MySQL:
		return &mysql.MySQLError{Number: 1213}
	case fencesql.SQLite:
		return busyError{}
	}
	return nil
}

// busyError stands for an error of modernc.org/sqlite, which cannot be made.
type busyError struct{}

func (busyError) Error() string { return "database is locked" }
func (busyError) Code() int     { return 5 }

// conflict provokes one by two transactions that update two rows in the opposite order, and for
// SQLite, which has one writer, by an error of the driver.
func conflict(t *testing.T, d *dbserver.Database, db *sql.DB) {
	if d.Dialect == fencesql.SQLite {
		require.True(t, d.Dialect.Retryable(busy(t, d)))
		return
	}
	_, err := db.ExecContext(t.Context(), "INSERT INTO accounts VALUES (8, 100)")
	require.NoError(t, err)
	var again atomic.Int32
	both := make(chan struct{}, 2)
	move := func(resource string, from, to string) error {
		first := true
		return d.Dialect.Tx(t.Context(), db, nil, resource, fence.Token{Value: 9}, func(tx *sql.Tx) error {
			if _, err := tx.ExecContext(t.Context(), "UPDATE accounts SET balance = balance - 1 WHERE id = "+from); err != nil {
				return err
			}
			if first {
				first = false
				both <- struct{}{}
				for len(both) < 2 {
					time.Sleep(time.Millisecond)
				}
			} else {
				again.Add(1)
			}
			_, err := tx.ExecContext(t.Context(), "UPDATE accounts SET balance = balance + 1 WHERE id = "+to)
			return err
		})
	}
	done := make(chan error, 1)
	go func() { done <- move("a", "7", "8") }()
	require.NoError(t, move("b", "8", "7"))
	require.NoError(t, <-done)
	require.Positive(t, again.Load(), "one of the two was tried again")
}

// busy is the error of a transaction that wants to write behind another one.
func busy(t *testing.T, d *dbserver.Database) error {
	first, err := sql.Open(d.Driver, d.DSN)
	require.NoError(t, err)
	defer first.Close()
	second, err := sql.Open(d.Driver, strings.Replace(d.DSN, "busy_timeout(10000)", "busy_timeout(1)", 1))
	require.NoError(t, err)
	defer second.Close()
	tx, err := first.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback()) }()
	require.NoError(t, d.Dialect.Check(t.Context(), tx, account, fence.Token{Value: 9}))
	_, err = second.ExecContext(t.Context(), "UPDATE accounts SET balance = 1")
	require.Error(t, err)
	return err
}

// Pitfall 5: with its row, a resource forgets.
func TestADeletedRowLetsAStaleTokenIn(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
		require.NoError(t, newer.claim())
		require.ErrorIs(t, older.claim(), fence.ErrStale)
		_, err := db.ExecContext(t.Context(), "DELETE FROM etcdlock_fence")
		require.NoError(t, err)
		require.NoError(t, older.claim())
	})
}

// Pitfall 6: the epoch puts the tokens of a restored etcd in front. Pitfall 10: both are 64 bits.
func TestEpochAndTokenAreComparedAsAPairOf64Bits(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		claim := func(epoch, value int64) error {
			return d.Dialect.Checker(db).Check(t.Context(), account, fence.Token{Epoch: epoch, Value: value})
		}
		for _, token := range []fence.Token{
			{Epoch: 0, Value: 1<<53 + 1}, {Epoch: 0, Value: math.MaxInt64}, {Epoch: 1, Value: 2}, {Epoch: 1, Value: 3}, {Epoch: math.MaxInt64, Value: 1},
		} {
			require.NoError(t, claim(token.Epoch, token.Value))
			if token.Value > 1 {
				require.ErrorIs(t, claim(token.Epoch, token.Value-1), fence.ErrStale)
			}
			if token.Epoch > 0 {
				require.ErrorIs(t, claim(token.Epoch-1, math.MaxInt64), fence.ErrStale)
			}
			require.NoError(t, claim(token.Epoch, token.Value), "a refusal changes nothing")
		}
	})
}

// A collation that ignores case or trailing spaces would take two resources for one.
func TestNamesOfResourcesAreBytes(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		for i, name := range []string{"a", "A", "a ", "ä", "a\u0308", "ß", "ss", strings.Repeat("x", fence.MaxResource), strings.Repeat("ä", fence.MaxResource/2)} {
			token := fence.Token{Value: int64(100 - i)} // refused if two names were one
			require.NoError(t, d.Dialect.Checker(db).Check(t.Context(), name, token), "%q", name)
		}
		for _, name := range []string{"", strings.Repeat("x", fence.MaxResource+1)} {
			require.ErrorIs(t, d.Dialect.Checker(db).Check(t.Context(), name, fence.Token{Value: 1}), fence.ErrInvalid)
		}
	})
}

func TestWhatFailsIsRolledBackWithTheClaim(t *testing.T) {
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
		failed := errors.New("no money")
		require.ErrorIs(t, newer.tx(func(tx *sql.Tx) error {
			return errors.Join(setBalance(t.Context(), tx, 1), failed)
		}), failed)
		require.Panics(t, func() { _ = newer.tx(func(*sql.Tx) error { panic("bug") }) })
		require.Zero(t, db.Stats().InUse)
		require.NoError(t, older.claim())
		require.Equal(t, 100, balance(t, db))
		require.Error(t, fencesql.Dialect(0).Tx(t.Context(), db, nil, account, newer.token, nil))
	})
}

// A transaction sees what was committed before its claim, at every isolation level.
func TestAClaimComesBeforeTheSnapshot(t *testing.T) {
	levels := map[fencesql.Dialect][]sql.IsolationLevel{
		fencesql.PostgreSQL: {sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable},
		fencesql.MySQL:      {sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable},
		fencesql.SQLite:     {sql.LevelDefault},
	}
	onEach(t, func(t *testing.T, d *dbserver.Database, db *sql.DB) {
		for _, level := range levels[d.Dialect] {
			older, newer := holderOf(t, d, db, 5), holderOf(t, d, db, 9)
			_, err := db.ExecContext(t.Context(), "DELETE FROM etcdlock_fence") // begin again
			require.NoError(t, err)
			seen := make(chan int, 1)
			done := make(chan error, 1)
			require.NoError(t, older.tx(func(tx *sql.Tx) error {
				go func() {
					done <- d.Dialect.Tx(t.Context(), db, &sql.TxOptions{Isolation: level}, account, newer.token, func(tx *sql.Tx) error {
						var n int
						err := tx.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 7").Scan(&n)
						seen <- n
						return err
					})
				}()
				time.Sleep(50 * time.Millisecond) // the newer one waits for the row
				return setBalance(t.Context(), tx, 42)
			}))
			require.NoError(t, <-done, level)
			require.Equal(t, 42, <-seen, level)
			_, err = db.ExecContext(t.Context(), "UPDATE accounts SET balance = 100")
			require.NoError(t, err)
		}
	})
}
