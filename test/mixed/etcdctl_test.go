package mixed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/procs"
)

// ctl is an etcdctl that runs: "lock" or "elect".
type ctl struct {
	*procs.Child
	lines  chan string // of its standard output; closed at its end
	errors *bytes.Buffer
}

// etcdctl starts the command; it ends with the test at the latest.
func (w *world) etcdctl(args ...string) (*ctl, error) {
	cmd := exec.Command(w.cluster.Etcdctl, append([]string{"--endpoints", strings.Join(w.cluster.Endpoints(), ",")}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3") // what 3.3 and before need to be told
	c := &ctl{lines: make(chan string, 100), errors: new(bytes.Buffer)}
	cmd.Stderr = c.errors
	child, stdin, stdout, err := kids.Talk(cmd)
	if err != nil {
		return nil, err
	}
	c.Child = child
	w.t.Cleanup(func() { stdin.Close() })
	go func() {
		defer stdout.Close()
		defer close(c.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	w.t.Cleanup(c.Kill)
	return c, nil
}

// line is the next line of the output.
func (c *ctl) line(ctx context.Context) (string, error) {
	select {
	case line, ok := <-c.lines:
		if !ok {
			return "", fmt.Errorf("etcdctl ended: %w: %s", c.Err(), c.errors)
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// end asks the command to end as ^C does, and waits for it.
func (c *ctl) end(ctx context.Context) error {
	if err := c.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-c.Gone():
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commands is a user of the command: every acquisition is a process.
type commands struct {
	enter func(ctx context.Context) (*ctl, *hold, error)
	last  atomic.Pointer[ctl]
}

func (c *commands) acquire(ctx context.Context) (*hold, error) {
	p, h, err := c.enter(ctx)
	if p != nil && err != nil {
		// As ^C would, so that its key goes; the lease is left to expire (trap E6).
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.end(bounded) // it may have ended
		p.Kill()
	}
	return h, err
}

// die kills the process.
func (c *commands) die() {
	if p := c.last.Load(); p != nil {
		p.Kill()
	}
}

// newCtlLock alternates between the two ways of the command: to hold until a signal, and
// to run a command while it holds, which is told the revision in its environment.
func newCtlLock(w *world, name string) contender {
	c := &commands{}
	n := 0
	c.enter = func(ctx context.Context) (*ctl, *hold, error) {
		if n++; n%2 == 0 {
			return w.ctlLockWhile(ctx, c, name)
		}
		return w.ctlShown(ctx, c, "lock", "--ttl", strconv.Itoa(int(ttl/time.Second)), "-w", "json", name)
	}
	return c
}

func newCtlElect(w *world, name, value string) contender {
	c := &commands{}
	c.enter = func(ctx context.Context) (*ctl, *hold, error) {
		return w.ctlShown(ctx, c, "elect", "-w", "json", name, value)
	}
	return c
}

// ctlShown starts a command that holds until a signal, and waits until it does.
func (w *world) ctlShown(ctx context.Context, c *commands, args ...string) (*ctl, *hold, error) {
	p, err := w.etcdctl(args...)
	if err != nil {
		return nil, nil, err
	}
	c.last.Store(p)
	h, err := p.shown(ctx)
	return p, h, err
}

// shown reads what the command shows of the key by which it holds.
func (c *ctl) shown(ctx context.Context) (*hold, error) {
	line, err := c.line(ctx)
	if err != nil {
		return nil, err
	}
	var out struct {
		Header struct {
			Revision int64 `json:"revision"`
		} `json:"header"`
		Kvs []struct {
			Key            []byte `json:"key"`
			CreateRevision int64  `json:"create_revision"`
			Lease          int64  `json:"lease"`
		} `json:"kvs"`
	}
	if err := json.Unmarshal([]byte(line), &out); err != nil {
		return nil, fmt.Errorf("%w in %q", err, line)
	}
	if len(out.Kvs) == 0 {
		return nil, fmt.Errorf("the command has lost its key: %q", line)
	}
	kv := out.Kvs[0]
	return &hold{
		key: string(kv.Key), lease: clientv3.LeaseID(kv.Lease), token: out.Header.Revision, order: kv.CreateRevision,
		ended: c.Gone(), release: c.end,
	}, nil
}

// ctlLockWhile runs a command under the lock, which ends when it can read a line.
func (w *world) ctlLockWhile(ctx context.Context, c *commands, name string) (*ctl, *hold, error) {
	fifo := filepath.Join(w.tempDir(), "end")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		return nil, nil, err
	}
	end, err := os.OpenFile(fifo, os.O_RDWR, 0) // does not wait for the other side
	if err != nil {
		return nil, nil, err
	}
	w.t.Cleanup(func() { end.Close() })
	p, err := w.etcdctl("lock", "--ttl", strconv.Itoa(int(ttl/time.Second)), name,
		"--", "sh", "-c", `echo "$ETCD_LOCK_REV $ETCD_LOCK_KEY" && read _ < "$0"`, fifo)
	if err != nil {
		return nil, nil, err
	}
	c.last.Store(p)
	line, err := p.line(ctx)
	if err != nil {
		_, werr := end.WriteString("\n") // should it get the lock after all
		return p, nil, errors.Join(err, werr)
	}
	h := &hold{ended: p.Gone(), release: func(ctx context.Context) error {
		if _, err := end.WriteString("\n"); err != nil {
			return err
		}
		select {
		case <-p.Gone():
			return p.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	if _, err := fmt.Sscan(line, &h.token, &h.key); err != nil {
		return p, nil, fmt.Errorf("%w in %q", err, line)
	}
	h.lease, err = leaseOf(h.key)
	return p, h, err
}

// leaseOf reads the lease from a key.
func leaseOf(key string) (clientv3.LeaseID, error) {
	tail, _, _ := strings.Cut(key[strings.LastIndexByte(key, '/')+1:], ".") // and perhaps a slot
	id, err := strconv.ParseInt(tail, 16, 64)
	return clientv3.LeaseID(id), err
}
