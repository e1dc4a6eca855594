package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// Servers of other kinds take part where they are installed. Each is one server, which
// survives less than three etcd nodes do. The names of the contestants show it.

// onOthers are the contestants with an installed server, or all of them.
func onOthers(where servers, all bool) []contestant {
	var out []contestant
	if all || where.RedisSafe != "" {
		out = append(out, redisContestants("fsync", "one server; every lock is in its log, synced to disk (appendfsync always)",
			func(s servers) string { return s.RedisSafe })...)
	}
	if all || where.RedisFast != "" {
		out = append(out, redisContestants("memory", "nothing: the locks are in the memory of one server and end with it",
			func(s servers) string { return s.RedisFast })...)
	}
	if all || where.Postgres != "" {
		out = append(out, postgresContestant())
	}
	if all || where.ZooKeeper != "" {
		out = append(out, zookeeperContestant())
	}
	return out
}

// startOthers starts what is installed, and names what is not.
func startOthers(ctx context.Context, kids *procs.Children, dir string, where *servers) (list []contestant, absent []string, err error) {
	if binary, err := exec.LookPath("redis-server"); err != nil {
		absent = append(absent, "Redis with redsync and redislock (no redis-server in PATH)")
	} else {
		if where.RedisSafe, err = startRedis(ctx, kids, binary, dir, "--appendonly", "yes", "--appendfsync", "always"); err != nil {
			return nil, nil, err
		}
		if where.RedisFast, err = startRedis(ctx, kids, binary, dir, "--appendonly", "no"); err != nil {
			return nil, nil, err
		}
	}
	initdb, err1 := exec.LookPath("initdb")
	postgres, err2 := exec.LookPath("postgres")
	switch {
	case errors.Join(err1, err2) != nil:
		absent = append(absent, "PostgreSQL's advisory locks (no initdb and postgres in PATH)")
	default:
		if where.Postgres, err = startPostgres(ctx, kids, initdb, postgres, dir); err != nil {
			return nil, nil, err
		}
	}
	java, err1 := exec.LookPath("java")
	jars := zookeeperJars()
	switch {
	case err1 != nil || jars == "":
		absent = append(absent, "ZooKeeper (no java in PATH, or no jar of it in ZOOKEEPER_HOME/lib or where Debian has it)")
	default:
		// What is there may be less than a server needs.
		if where.ZooKeeper, err = startZooKeeper(ctx, kids, java, jars, dir); err != nil {
			if ctx.Err() != nil {
				return nil, nil, err
			}
			absent = append(absent, fmt.Sprintf("ZooKeeper (%v)", err))
		}
	}
	return onOthers(*where, false), absent, nil
}

func startRedis(ctx context.Context, kids *procs.Children, binary, dir string, args ...string) (string, error) {
	data, port, err := room(dir, "redis-")
	if err != nil {
		return "", err
	}
	args = append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", data, "--save", "", "--logfile", "log"}, args...)
	p, err := kids.Start(exec.Command(binary, args...))
	if err != nil {
		return "", fmt.Errorf("start redis: %w", err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	return address, answers(ctx, p, "redis", func(ctx context.Context) error {
		// It is ours if its data lies where ours does.
		got, err := client.ConfigGet(ctx, "dir").Result()
		if err == nil && got["dir"] != data {
			err = fmt.Errorf("%w: its data lies in %s", etcdproc.ErrForeign, got["dir"])
		}
		return err
	})
}

// room is a directory and a port for a server.
func room(dir, pattern string) (data string, port int, err error) {
	if data, err = os.MkdirTemp(dir, pattern); err != nil {
		return "", 0, err
	}
	ports, err := etcdproc.FreePorts(1)
	if err != nil {
		return "", 0, err
	}
	return data, ports[0], nil
}

// answers waits until a server answers.
func answers(ctx context.Context, p *procs.Child, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil || errors.Is(err, etcdproc.ErrForeign) {
			return err
		}
		select {
		case <-p.Gone():
			return fmt.Errorf("%s ended: %w", what, p.Err())
		case <-ctx.Done():
			return fmt.Errorf("%s does not get ready: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startPostgres makes a database and starts its server. That refuses to run as root,
// and gets another user then.
func startPostgres(ctx context.Context, kids *procs.Children, initdb, postgres, dir string) (string, error) {
	data, port, err := room(dir, "postgres-")
	if err != nil {
		return "", err
	}
	attr, err := unprivileged(data)
	if err != nil {
		return "", err
	}
	db := filepath.Join(data, "db")
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = data
		if attr != nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: attr}
		}
		return cmd
	}
	if out, err := run(initdb, "-D", db, "-U", "bench", "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	cmd := run(postgres, "-D", db, "-p", strconv.Itoa(port), "-k", data,
		"-c", "listen_addresses=127.0.0.1", "-c", "max_connections=600", "-c", "logging_collector=off")
	log, err := os.Create(filepath.Join(dir, "postgres.log"))
	if err != nil {
		return "", err
	}
	defer log.Close() // the process has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	p, err := kids.Start(cmd)
	if err != nil {
		return "", fmt.Errorf("start postgres: %w", err)
	}
	where := fmt.Sprintf("host=127.0.0.1 port=%d user=bench dbname=postgres sslmode=disable", port)
	return where, answers(ctx, p, "postgres", func(ctx context.Context) error { return ownPostgres(ctx, where, db) })
}

// unprivileged is another user, which gets dir. It is nil if this program is not root.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("postgres does not run as root: %w", err)
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
