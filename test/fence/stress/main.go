// Stress writes to the databases by 16 writers that lose their locks and go on, with the fence and
// without. It prints a table, and exits with 1 if the fence let a stale write through, or if the run
// without it had none, which then showed nothing.
//
//	go run ./stress -writes 1000000
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock/test/fence/dbserver"
)

// level is an isolation level of a database.
type level struct {
	name      string
	isolation sql.IsolationLevel
	prepare   string // a statement before the run; may be empty
}

// levels are those that a database is tested at. SQLite has one level, and two journals.
var levels = map[string][]level{
	"postgresql": {
		{name: "read committed", isolation: sql.LevelReadCommitted},
		{name: "serializable", isolation: sql.LevelSerializable},
	},
	"mariadb": {
		{name: "read committed", isolation: sql.LevelReadCommitted},
		{name: "repeatable read", isolation: sql.LevelRepeatableRead},
	},
	"sqlite": {
		{name: "write-ahead log", prepare: "PRAGMA journal_mode = WAL"},
		{name: "rollback journal", prepare: "PRAGMA journal_mode = DELETE"},
	},
}

func main() {
	writes := flag.Int64("writes", 1_000_000, "writes in all with the fence")
	control := flag.Int64("control", 1_000_000, "writes in all without the fence")
	only := flag.String("only", strings.Join(dbserver.Names, ","), "databases")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := all(ctx, strings.Split(*only, ","), *writes, *control); err != nil {
		fmt.Fprintln(os.Stderr, "stress:", err)
		stop()
		os.Exit(1)
	}
}

// all runs the databases at every level with the fence and without. The writes are those of all
// six lines of the table.
func all(ctx context.Context, databases []string, writes, control int64) error {
	fmt.Println("| database | isolation | fence | writes | refused | stale writes | holds lost | retries | time |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	var failure error
	for _, name := range databases {
		db, err := dbserver.Start(ctx, name)
		if err != nil {
			return err
		}
		err = both(ctx, db, (writes+5)/6, (control+5)/6)
		db.Stop()
		if err != nil {
			failure = err
			fmt.Println(err)
		}
	}
	return failure
}

func both(ctx context.Context, db *dbserver.Database, writes, control int64) error {
	for _, level := range levels[db.Name] {
		for _, p := range []plan{{db, level, true, writes}, {db, level, false, control}} {
			out, err := execute(ctx, p)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", db.Name, level.name, err)
			}
			with := "yes"
			if !p.checks {
				with = "no"
			}
			fmt.Printf("| %s | %s | %s | %d | %d | %d | %d | %d | %v |\n", db.Name, level.name, with,
				out.written, out.refused, out.stale, out.lost, out.retries, out.took.Round(time.Second/10))
			if err := p.verdict(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// verdict is an error if the run did not show what it is for.
func (p plan) verdict(out outcome) error {
	switch {
	case p.checks && out.stale > 0:
		return fmt.Errorf("%s, %s: the fence let %d stale writes through", p.db.Name, p.level.name, out.stale)
	case p.checks && out.refused == 0:
		return fmt.Errorf("%s, %s: no write was refused, so nothing was shown", p.db.Name, p.level.name)
	case !p.checks && out.stale == 0:
		return fmt.Errorf("%s, %s: no stale write without the fence, so nothing was shown", p.db.Name, p.level.name)
	}
	return nil
}
