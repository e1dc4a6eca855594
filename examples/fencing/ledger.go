package main

import (
	"database/sql"
	"fmt"
	"net/http"

	"github.com/etcdlock/etcdlock/fence/fencehttp"
	"github.com/etcdlock/etcdlock/fence/fencesql"
)

// ledger is the resource: a service with a database. It does not know etcd.
type ledger struct{ db *sql.DB }

func newLedger(file string) (*ledger, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		fencesql.SQLite.Schema(),
		"CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, balance INTEGER NOT NULL)",
		"INSERT INTO accounts VALUES ('7', 100) ON CONFLICT DO NOTHING",
	} {
		if _, err := db.Exec(statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return &ledger{db}, nil
}

func (l *ledger) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /accounts/{id}/claim", func(w http.ResponseWriter, r *http.Request) {
		l.fenced(w, r, "") // only reads, but claims first
	})
	mux.HandleFunc("PUT /accounts/{id}", func(w http.ResponseWriter, r *http.Request) {
		l.fenced(w, r, "UPDATE accounts SET balance = ? WHERE id = ?", r.FormValue("balance"), r.PathValue("id"))
	})
	return mux
}

// fenced answers with the balance after the statement. The check of the token, the statement and the
// read are one transaction.
func (l *ledger) fenced(w http.ResponseWriter, r *http.Request, statement string, args ...any) {
	ctx, id := r.Context(), r.PathValue("id")
	const read = "SELECT balance FROM accounts WHERE id = ?"
	var balance int
	token, err := fencehttp.Token(r)
	if err == nil {
		err = fencesql.SQLite.Tx(ctx, l.db, nil, "accounts/"+id, token, func(tx *sql.Tx) error {
			if statement != "" {
				if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
					return err
				}
			}
			return tx.QueryRowContext(ctx, read, id).Scan(&balance)
		})
	}
	if err != nil {
		fencehttp.Refuse(w, err) // 412 with the newer token
		return
	}
	_, _ = fmt.Fprint(w, balance)
}
