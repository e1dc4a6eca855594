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
