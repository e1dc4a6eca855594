//go:build linux

// Command outlive measures for how long a command still runs after another process has acquired its
// lock. It compares "etcdlock lock" with "etcdctl lock" while the wrapper is killed, stopped and cut
// off from etcd. Its table is in docs/command.md.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

const (
	ctlVersion = "v3.7.3"
	ttl        = 5 * time.Second
	watched    = 30 * time.Second // for how long a command is watched after the next grant
)

var faults = []struct {
	name   string
	strike func(wrapper *os.Process, link *faultproxy.Proxy)
}{
	{"wrapper killed (SIGKILL)", func(w *os.Process, _ *faultproxy.Proxy) { _ = w.Signal(syscall.SIGKILL) }},
	{"wrapper stopped (SIGSTOP)", func(w *os.Process, _ *faultproxy.Proxy) { _ = w.Signal(syscall.SIGSTOP) }},
	{"network cut", func(_ *os.Process, l *faultproxy.Proxy) { l.Hold() }},
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "outlive:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ctl, err := etcdctl(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "outlive-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own := filepath.Join(dir, "etcdlock")
	if err := command(ctx, ".", "go", "build", "-o", own, "."); err != nil {
		return err
	}
	endpoint, stop, err := serve(own)
	if err != nil {
		return err
	}
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()

	wrappers := []struct {
		name string
		args []string
	}{
		{"etcdctl lock", []string{ctl, "lock", "--ttl", strconv.Itoa(int(ttl.Seconds()))}},
		{"etcdlock lock", []string{own, "lock", "--ttl", ttl.String()}},
	}
	cells := make([][]string, len(faults))
	errs := make(chan error, len(faults)*len(wrappers))
	var wg sync.WaitGroup
	for i, f := range faults {
		cells[i] = make([]string, len(wrappers))
		for j, w := range wrappers {
			wg.Go(func() {
				m := &measure{client: client, endpoint: endpoint, name: fmt.Sprintf("outlive/%d-%d", i, j), args: w.args}
				var err error
				if cells[i][j], err = m.run(ctx, f.strike); err != nil {
					errs <- fmt.Errorf("%s, %s: %w", w.name, f.name, err)
				}
			})
		}
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	fmt.Printf("| | %s | %s |\n|---|---|---|\n", wrappers[0].name, wrappers[1].name)
	for i, f := range faults {
		fmt.Printf("| %s | %s |\n", f.name, strings.Join(cells[i], " | "))
	}
	return nil
}

// measure measures one command under one wrapper.
type measure struct {
	client         *clientv3.Client
	endpoint, name string
	args           []string
}

func (m *measure) run(ctx context.Context, strike func(*os.Process, *faultproxy.Proxy)) (string, error) {
	link, err := faultproxy.New(m.endpoint)
	if err != nil {
		return "", err
	}
	defer link.Close()
	args := append(append([]string{}, m.args[1:]...), m.name, "--")
	wrapper := exec.CommandContext(ctx, m.args[0], append(args, "sh", "-c", "echo $$; while :; do sleep 0.05; done")...)
	wrapper.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+link.Endpoints()[0])
	wrapper.Stderr = os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	wrapper.Stdout = w
	if err := wrapper.Start(); err != nil {
		return "", err
	}
	_ = w.Close()
	defer func() {
		_ = wrapper.Process.Kill()
		_ = wrapper.Wait()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the command says nothing: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return "", err
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()

	s, err := etcdlock.NewSession(ctx, m.client)
	if err != nil {
		return "", err
	}
	defer s.Close(ctx)
	died := make(chan time.Time, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for watching.Err() == nil {
			if dead(pid) {
				died <- time.Now()
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	time.Sleep(time.Second)
	strike(wrapper.Process, link)
	struck := time.Now()
	lock, err := etcdlock.NewMutex(s, m.name).Lock(ctx)
	if err != nil {
		return "", err
	}
	granted := time.Now()
	defer lock.Unlock(ctx) //nolint:errcheck // the session is closed
	select {
	case at := <-died:
		if d := at.Sub(granted); d > 0 {
			return fmt.Sprintf("**outlives it by %.1f s**", d.Seconds()), nil
		}
		return fmt.Sprintf("dead %.1f s after the fault, %.1f s before the next holder", at.Sub(struck).Seconds(), granted.Sub(at).Seconds()), nil
	case <-time.After(watched):
		return fmt.Sprintf("**still runs %.0f s after the next one holds**", watched.Seconds()), nil
	}
}

func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0] == "Z" || fields[0] == "X"
}

// serve starts an etcd for this program.
func serve(own string) (endpoint string, stop func(), err error) {
	cmd := exec.Command(own, "serve-dev", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, err
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "export ETCDCTL_ENDPOINTS="), stop, nil
}

// etcdctl builds an etcdctl from the module proxy, once, where other tests find it too.
func etcdctl(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "etcdlock", "etcd-"+ctlVersion, "etcdctl")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(binary), "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module build\n\ngo 1.26.0\n"), 0o600); err != nil {
		return "", err
	}
	const pkg = "go.etcd.io/etcd/etcdctl/v3"
	for _, args := range [][]string{{"get", pkg + "@" + ctlVersion}, {"build", "-trimpath", "-o", "etcdctl", pkg}} {
		if err := command(ctx, dir, "go", args...); err != nil {
			return "", err
		}
	}
	return binary, os.Rename(filepath.Join(dir, "etcdctl"), binary)
}

func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if dir != "." {
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
