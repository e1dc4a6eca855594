//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/beside"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

// asCommand turns this test program into etcdlock, so that the tests run real processes.
const asCommand = "ETCDLOCK_TEST_COMMAND"

// noSleep keeps the race detector from sleeping for a second before each exit.
const noSleep = "GORACE=atexit_sleep_ms=0"

// long bounds the wait for an event that should happen soon.
const long = time.Minute

// dev is the etcd of all tests. It runs in another process.
var dev struct {
	endpoint string
	client   *clientv3.Client
}

func TestMain(m *testing.M) {
	beside.Subreap()
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	beside.LeaveMake()
	beside.HearSignals()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "ETCDCTL_") {
			_ = os.Unsetenv(name) // set by the environment of the tests
		}
	}
	_ = os.Setenv("ETCDCTL_COMMAND_TIMEOUT", "20s") // also on a busy machine
	endpoint, stop, err := serveDev()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	dev.endpoint = endpoint
	dev.client, err = clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer dev.client.Close()
	return m.Run()
}

// serveDev starts an etcd by the serve-dev command.
func serveDev(args ...string) (endpoint string, stop func(), err error) {
	cmd := exec.Command(os.Args[0], append([]string{"serve-dev", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1", noSleep)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = endWithTests()
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
		return "", nil, fmt.Errorf("serve-dev says nothing: %w", err)
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "export ETCDCTL_ENDPOINTS="), stop, nil
}

// process is a running etcdlock. The environment of etcdlock, its guard and its command has the mark.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	mark   string
	lines  chan string
	out    safeBuffer
	stderr safeBuffer
	ended  chan struct{}
	code   int
}

// start starts etcdlock on the etcd of the tests.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startOn(t, dev.endpoint, args...)
}

func startOn(t *testing.T, endpoint string, args ...string) *process {
	t.Helper()
	return startFile(t, os.Args[0], endpoint, args...)
}

// startFile starts the etcdlock in a file.
func startFile(t *testing.T, file, endpoint string, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 1000), ended: make(chan struct{})}
	p.mark = fmt.Sprintf("ETCDLOCK_TEST_MARK=%s-%d", t.Name(), time.Now().UnixNano())
	p.cmd = exec.Command(file, args...)
	p.cmd.Env = append(os.Environ(), asCommand+"=1", noSleep, p.mark, "ETCDCTL_ENDPOINTS="+endpoint)
	p.cmd.SysProcAttr = endWithTests()
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = 10 * time.Second // for a process that is left with its stderr
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = w
	require.NoError(t, p.cmd.Start())
	require.NoError(t, w.Close())
	go func() {
		defer r.Close()
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			_, _ = p.out.Write(append(s.Bytes(), '\n'))
			p.lines <- s.Text()
		}
	}()
	go func() {
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left: %v", p.family())
		}
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Kill()
		<-p.ended
		for pid := range p.family() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("%v:\n%s%s", args, &p.out, &p.stderr)
		}
	})
	return p
}

// endWithTests ends processes with the test program, however that ends.
func endWithTests() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// runToEnd runs etcdlock to its end.
func runToEnd(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, args...)
	p.wait()
	p.output()
	return p
}

// soon stands for a timeout in the arguments of runInTime.
const soon = "SOON"

// runInTime runs etcdlock to its end, with a timeout in which it reaches etcd. The timeout is longer on
// a busy machine.
func runInTime(t *testing.T, args ...string) (p *process, timeout string) {
	t.Helper()
	for within := 300 * time.Millisecond; ; within *= 4 {
		given := slices.Clone(args)
		for i, arg := range given {
			if arg == soon {
				given[i] = within.String()
			}
		}
		p = runToEnd(t, given...)
		if p.code != exitUnreachable || !slices.Contains(args, soon) || within > long {
			return p, within.String()
		}
	}
}

// output waits until etcdlock and its command have closed their output, and returns all of it.
func (p *process) output() string {
	p.t.Helper()
	for late := time.After(2 * long); ; {
		select {
		case _, ok := <-p.lines:
			if !ok {
				return p.out.String()
			}
		case <-late:
			require.FailNow(p.t, "its output does not end", "%v", p.family())
		}
	}
}

// wait waits for the end, and returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.code
	case <-time.After(2 * long):
		require.FailNow(p.t, "etcdlock does not end", "%v\n%s%s", p.cmd.Args, &p.out, &p.stderr)
		return -1
	}
}

// says waits for a line of output with a prefix, and returns the rest of the line.
func (p *process) says(prefix string) string {
	p.t.Helper()
	deadline := time.After(long)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				require.FailNow(p.t, "not said: "+prefix, "%s%s", &p.out, &p.stderr)
			}
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest
			}
		case <-deadline:
			require.FailNow(p.t, "not said in time: "+prefix, "%s%s", &p.out, &p.stderr)
		}
	}
}

// pid waits for a line with the number of a process.
func (p *process) pid(prefix string) int {
	p.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(p.says(prefix)))
	require.NoError(p.t, err)
	return pid
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
}

// family returns the processes that are left of an etcdlock: itself, its guard, its command and the
// processes below the command.
func (p *process) family() map[int]string {
	found := make(map[int]string)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(p.t, err)
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(env, []byte(p.mark+"\x00")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if dead(pid) {
			continue
		}
		found[pid] = strings.ReplaceAll(string(args), "\x00", " ")
	}
	return found
}

// guard is the number of its guard process. It is 0 until there is one that is ready.
func (p *process) guard() int {
	p.t.Helper()
	for pid, args := range p.family() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(args, child.GuardCommand) {
			continue
		}
		_, after, _ := strings.Cut(string(status), "SigIgn:")
		mask, _ := strconv.ParseUint(strings.Fields(after)[0], 16, 64)
		if mask&(1<<(syscall.SIGTSTP-1)) != 0 { // the last one that it begins to ignore
			return pid
		}
	}
	return 0
}

// noProcessLeft waits until no process is left.
func (p *process) noProcessLeft() {
	p.t.Helper()
	eventually(p.t, func() bool { return len(p.family()) == 0 }, "no process is left")
}

// dead reports whether a process has ended.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) == 0 || fields[0] == "Z" || fields[0] == "X"
}

// dies waits for the end of a process.
func dies(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() bool { return dead(pid) }, "it ends")
}

func eventually(t *testing.T, ok func() bool, what string) {
	t.Helper()
	require.Eventually(t, ok, long, 10*time.Millisecond, what)
}

// receive waits for a value, for a limited time.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(2 * long):
		require.FailNow(t, "nothing came", what)
		panic("unreachable")
	}
}

// nothingLeft waits until no key of a name, and no lease of the keys, is left in etcd.
func nothingLeft(t *testing.T, name string, keys ...string) {
	t.Helper()
	eventually(t, func() bool { return len(keysOf(t, name)) == 0 }, "no key is left of "+name)
	for _, key := range keys {
		eventually(t, func() bool { return !leaseLives(t, key) }, "no lease is left of "+key)
	}
}

func keysOf(t *testing.T, name string) (keys []string) {
	t.Helper()
	resp, err := dev.client.Get(t.Context(), name, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(t, err)
	for _, kv := range resp.Kvs {
		if !queues.IsNote(string(kv.Key)) {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

// leaseOf is the lease in the name of a key.
func leaseOf(t *testing.T, key string) clientv3.LeaseID {
	t.Helper()
	lease, _, _ := strings.Cut(key[strings.LastIndexByte(key, '/')+1:], ".")
	id, err := strconv.ParseInt(lease, 16, 64)
	require.NoError(t, err, key)
	return clientv3.LeaseID(id)
}

// leaseLives reports whether the lease in the name of a key lives.
func leaseLives(t *testing.T, key string) bool {
	t.Helper()
	ttl, err := dev.client.TimeToLive(t.Context(), leaseOf(t, key))
	require.NoError(t, err)
	return ttl.TTL > 0
}

// newSession creates a session of the test, which is another process for the command.
func newSession(t *testing.T) *etcdlock.Session {
	t.Helper()
	s, err := etcdlock.NewSession(t.Context(), dev.client, etcdlock.WithOwner("the test"))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

// waitBehind waits in the queue of a name. After the grant it sends which of the processes still run.
func waitBehind(t *testing.T, name string, pids ...int) <-chan []int {
	t.Helper()
	s := newSession(t)
	before := len(keysOf(t, name+"/"))
	granted := make(chan []int, 1)
	ctx := t.Context()
	go func() {
		if _, err := etcdlock.NewMutex(s, name).Lock(ctx); err == nil {
			granted <- slices.DeleteFunc(pids, dead)
		}
	}()
	eventually(t, func() bool { return len(keysOf(t, name+"/")) > before }, "it is in the queue")
	return granted
}

func hexOf(id clientv3.LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// nameOf returns a name that only one test uses.
func nameOf(t *testing.T) string {
	return "tests/" + t.Name() + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// safeBuffer is a buffer that can be read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*safeBuffer)(nil)

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
