// Package dbserver runs the databases of the tests of the fence. They are Debian's PostgreSQL and MariaDB
// as processes of the caller, each on a socket in a directory of its own, and SQLite in a file.
package dbserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/etcdlock/etcdlock/fence/fencesql"
)

// Need in the environment makes a missing server a failure of a test instead of a skip. CI sets it.
const Need = "ETCDLOCK_NEED_SERVERS"

// ErrMissing is matched by the error of a Start when the server is not installed.
var ErrMissing = errors.New("not installed: apt-get install postgresql mariadb-server")

// Database is where a test writes.
type Database struct {
	Name    string
	Dialect fencesql.Dialect
	Driver  string
	DSN     string

	stop func()
}

// Open returns connections to the database; the caller closes them.
func (d *Database) Open() (*sql.DB, error) { return sql.Open(d.Driver, d.DSN) }

// Stop ends the server and removes what it stored.
func (d *Database) Stop() { d.stop() }

// Names are the databases that Start knows.
var Names = []string{"postgresql", "mariadb", "sqlite"}

// Start starts a database and returns when it answers.
func Start(ctx context.Context, name string) (*Database, error) {
	// Not TempDir of a test: the name of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "fence")
	if err != nil {
		return nil, err
	}
	d := &Database{Name: name, stop: func() { _ = os.RemoveAll(dir) }}
	switch name {
	case "postgresql":
		err = d.postgresql(dir)
	case "mariadb":
		err = d.mariadb(dir)
	case "sqlite":
		d.Dialect, d.Driver = fencesql.SQLite, "sqlite"
		d.DSN = "file:" + filepath.Join(dir, "db") + "?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)"
	default:
		err = fmt.Errorf("no database %q", name)
	}
	if err == nil {
		err = d.ready(ctx)
	}
	if err != nil {
		d.Stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

func (d *Database) ready(ctx context.Context) error {
	db, err := d.Open()
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		}
	}
}

// The files are not synced: what survives a crash of the machine is not asked here.
func (d *Database) postgresql(dir string) error {
	d.Dialect, d.Driver = fencesql.PostgreSQL, "pgx"
	d.DSN = "host=" + dir + " user=postgres dbname=postgres"
	bin, err := find("postgres", "initdb")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	return d.run(dir, "postgres", []string{bin["initdb"], "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"},
		[]string{bin["postgres"], "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"})
}

func (d *Database) mariadb(dir string) error {
	d.Dialect, d.Driver = fencesql.MySQL, "mysql"
	socket := filepath.Join(dir, "sock")
	d.DSN = "root@unix(" + socket + ")/test"
	bin, err := find("mariadbd", "mariadb-install-db")
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	return d.run(dir, "mysql", []string{bin["mariadb-install-db"], "--no-defaults", "--datadir=" + data, "--tmpdir=" + dir, "--auth-root-authentication-method=normal"},
		[]string{bin["mariadbd"], "--no-defaults", "--datadir=" + data, "--tmpdir=" + dir, "--socket=" + socket, "--pid-file=" + filepath.Join(dir, "pid"),
			"--skip-networking", "--innodb-flush-log-at-trx-commit=0", "--max-connections=200"})
}

// run initialises the server and starts it. Neither runs as root: then the account of Debian's
// package owns the directory and the processes.
func (d *Database) run(dir, account string, initialise, serve []string) error {
	var attr syscall.SysProcAttr
	if os.Geteuid() == 0 {
		u, err := user.Lookup(account)
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	command := func(args []string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		own := attr
		cmd.SysProcAttr, cmd.Dir = &own, dir
		return cmd
	}
	if out, err := command(initialise).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	server := command(serve)
	server.Stdout, server.Stderr = log, log
	endWithParent(server.SysProcAttr)
	if err := server.Start(); err != nil {
		return err
	}
	remove := d.stop
	d.stop = func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // PostgreSQL: at once, its children too
		if account == "mysql" {
			_ = server.Process.Kill()
		}
		_ = server.Wait()
		remove()
	}
	return nil
}

// find returns the paths of programs, which Debian keeps outside of a user's PATH.
func find(programs ...string) (map[string]string, error) {
	found := map[string]string{}
	for _, program := range programs {
		candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
		if path, err := exec.LookPath(program); err == nil {
			candidates = append(candidates, path)
		}
		candidates = append(candidates, "/usr/sbin/"+program)
		for _, path := range candidates {
			if _, err := os.Stat(path); err == nil {
				found[program] = path
			}
		}
		if found[program] == "" {
			return nil, fmt.Errorf("%s: %w", program, ErrMissing)
		}
	}
	return found, nil
}
