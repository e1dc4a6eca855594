package fencesql_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence/fencesql"
)

type pgError string

func (e pgError) Error() string    { return string(e) }
func (e pgError) SQLState() string { return string(e) }

// As go-sql-driver/mysql has it.
type mysqlError struct{ Number uint16 }

func (e *mysqlError) Error() string { return "mysql" }

// As mattn/go-sqlite3 has it.
type sqliteError struct{ Code int }

func (e sqliteError) Error() string { return "sqlite" }

func TestOnlyConflictsAreRetried(t *testing.T) {
	for _, c := range []struct {
		dialect fencesql.Dialect
		err     error
		want    bool
	}{
		{fencesql.PostgreSQL, pgError("40001"), true},
		{fencesql.PostgreSQL, pgError("23505"), false},
		{fencesql.MySQL, &mysqlError{1213}, true},
		{fencesql.MySQL, &mysqlError{1062}, false},
		{fencesql.MySQL, (*mysqlError)(nil), false},
		{fencesql.MySQL, pgError("40001"), false},
		{fencesql.SQLite, sqliteError{5}, true},
		{fencesql.SQLite, sqliteError{5 | 2<<8}, true},
		{fencesql.SQLite, sqliteError{19}, false},
		{fencesql.SQLite, errors.New("database is locked"), false},
		{fencesql.SQLite, nil, false},
		{0, pgError("40001"), false},
	} {
		require.Equal(t, c.want, c.dialect.Retryable(c.err), "%v %v", c.dialect, c.err)
		if c.err != nil {
			require.Equal(t, c.want, c.dialect.Retryable(fmt.Errorf("update: %w", c.err)))
			require.Equal(t, c.want, c.dialect.Retryable(errors.Join(errors.New("rollback"), c.err)))
		}
	}
}
