// Package fence_test tests the fence on real databases.
package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencesql"
	"github.com/etcdlock/etcdlock/test/fence/dbserver"
)

// databases are those that could be started, and missing says why the others were not.
var (
	databases []*dbserver.Database
	missing   []error
)

func TestMain(m *testing.M) {
	flag.Parse()
	if endpoint := os.Getenv(playHolder); endpoint != "" {
		os.Exit(holder(endpoint))
	}
	code := 1
	if err := startAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	for _, d := range databases {
		d.Stop()
	}
	os.Exit(code)
}

func startAll() error {
	for _, name := range dbserver.Names {
		d, err := dbserver.Start(context.Background(), name)
		switch {
		case err == nil:
			databases = append(databases, d)
		case errors.Is(err, dbserver.ErrMissing) && os.Getenv(dbserver.Need) == "":
			missing = append(missing, err)
		default:
			return err
		}
	}
	return nil
}

// onEach runs a test on each database, with the tables it needs empty. A test that a server is
// missing for is skipped with the reason.
func onEach(t *testing.T, test func(t *testing.T, d *dbserver.Database, db *sql.DB)) {
	for _, d := range databases {
		t.Run(d.Name, func(t *testing.T) { test(t, d, open(t, d)) })
	}
	for _, err := range missing {
		name, _, _ := strings.Cut(err.Error(), ":")
		t.Run(name, func(t *testing.T) { t.Skip(err) })
	}
}

func open(t *testing.T, d *dbserver.Database) *sql.DB {
	t.Helper()
	db, err := d.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	for _, statement := range []string{
		"DROP TABLE IF EXISTS etcdlock_fence", d.Dialect.Schema(), d.Dialect.Schema(),
		"DROP TABLE IF EXISTS accounts", "CREATE TABLE accounts (id integer PRIMARY KEY, balance integer NOT NULL)",
		"INSERT INTO accounts VALUES (7, 100)",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	return db
}

const account = "accounts/7"

// hold is a holder with its token at one database.
type hold struct {
	t       *testing.T
	dialect fencesql.Dialect
	db      *sql.DB
	token   fence.Token
}

func holderOf(t *testing.T, d *dbserver.Database, db *sql.DB, value int64) hold {
	return hold{t, d.Dialect, db, fence.Token{Value: value}}
}

// tx is fencesql's Tx under the context of the test.
func (h hold) tx(fn func(*sql.Tx) error) error {
	return h.dialect.Tx(h.t.Context(), h.db, nil, account, h.token, fn)
}

func (h hold) claim() error { return h.tx(func(*sql.Tx) error { return nil }) }

func (h hold) set(balance int) error {
	return h.tx(func(tx *sql.Tx) error { return setBalance(h.t.Context(), tx, balance) })
}

func setBalance(ctx context.Context, tx *sql.Tx, balance int) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = 7", balance))
	return err
}

// row is what db and tx have in common.
type row interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func balance(t *testing.T, from row) (n int) {
	t.Helper()
	require.NoError(t, from.QueryRowContext(t.Context(), "SELECT balance FROM accounts WHERE id = 7").Scan(&n))
	return n
}
