package fence_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/fence/fencegrpc"
	"github.com/etcdlock/etcdlock/fence/fencehttp"
	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
	"github.com/etcdlock/etcdlock/test/fence/dbserver"
)

// playHolder in the environment makes the test binary a holder: it has the endpoint of etcd.
// playPlaces has the places that this holder writes to.
const (
	playHolder = "ETCDLOCK_FENCE_HOLDER"
	playPlaces = "ETCDLOCK_FENCE_PLACES"
)

// places are where a holder writes.
type places struct {
	Databases []*dbserver.Database
	HTTP      string // a URL
	GRPC      string // an address
}

// A process that is stopped past the deadline of its lock, and continued when another process has
// written, is refused everywhere.
func TestTheWriteOfAProcessThatWasStoppedIsRefused(t *testing.T) {
	programs, err := etcdproc.Build(t.Context(), etcdproc.Version, log.Printf)
	require.NoError(t, err)
	var children procs.Children
	defer children.EndAll()
	cluster, err := programs.Start(t.Context(), &children, etcdproc.Config{Size: 1, Dir: t.TempDir()})
	require.NoError(t, err)
	defer cluster.Stop()

	for _, d := range databases {
		open(t, d)
	}
	to := places{Databases: databases}
	to.HTTP, to.GRPC = servers(t)
	everywhere := []string{"http", "grpc"}
	for _, d := range databases {
		everywhere = append(everywhere, d.Name)
	}

	a := startHolder(t, cluster.Endpoints()[0], to)
	a.await("claimed")
	require.NoError(t, a.cmd.Process.Signal(syscall.SIGSTOP))
	b := startHolder(t, cluster.Endpoints()[0], to)
	b.await("claimed") // the lease of the first one has ended
	b.write()
	for _, place := range everywhere {
		b.await(place + ": written")
	}
	require.NoError(t, a.cmd.Process.Signal(syscall.SIGCONT))
	a.write()
	for _, place := range everywhere {
		a.await(place + ": stale")
	}
	for _, d := range databases {
		db, err := d.Open()
		require.NoError(t, err)
		require.Equal(t, b.cmd.Process.Pid, balance(t, db), d.Name)
		require.NoError(t, db.Close())
	}
	for _, err := range missing {
		t.Logf("without %v", err)
	}
}

// servers are one over HTTP and one over gRPC that keep the tokens in SQLite.
func servers(t *testing.T) (url, address string) {
	d, err := dbserver.Start(t.Context(), "sqlite")
	require.NoError(t, err)
	t.Cleanup(d.Stop)
	checker := d.Dialect.Checker(open(t, d))

	web := httptest.NewServer(fencehttp.Middleware(checker, func(*http.Request) string { return "http/" + account })(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	t.Cleanup(web.Close)

	server := grpc.NewServer(grpc.UnaryInterceptor(fencegrpc.UnaryServer(checker, func(context.Context, string, any) string { return "grpc/" + account })))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return web.URL, listener.Addr().String()
}

// holderProcess is a holder as its test sees it.
type holderProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func startHolder(t *testing.T, endpoint string, to places) *holderProcess {
	t.Helper()
	encoded, err := json.Marshal(to)
	require.NoError(t, err)
	p := &holderProcess{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), playHolder+"="+endpoint, playPlaces+"="+string(encoded))
	p.cmd.Stderr = os.Stderr
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.lines = bufio.NewScanner(stdout)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // also ends a process that is stopped
		_ = p.cmd.Wait()
	})
	return p
}

// await reads the next line, which is to be the given one.
func (p *holderProcess) await(line string) {
	p.t.Helper()
	require.True(p.t, p.lines.Scan(), "the process ended before it said %q", line)
	require.Equal(p.t, line, p.lines.Text())
}

// write tells the process to write.
func (p *holderProcess) write() {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, "write\n")
	require.NoError(p.t, err)
}

// holder is the program: it takes the lock, claims, waits for a line, and writes.
func holder(endpoint string) int {
	if err := runHolder(endpoint); err != nil {
		fmt.Fprintln(os.Stderr, "holder:", err)
		return 1
	}
	return 0
}

func runHolder(endpoint string) error {
	var to places
	if err := json.Unmarshal([]byte(os.Getenv(playPlaces)), &to); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	defer client.Close()
	session, err := etcdlock.NewSession(context.Background(), client, etcdlock.WithTTL(2*time.Second))
	if err != nil {
		return err
	}
	lock, err := etcdlock.NewMutex(session, account).Lock(context.Background())
	if err != nil {
		return err
	}
	// A stopped process can stand behind its last look at the context of the lock, so the writes
	// are made without this context.
	ctx := fence.WithToken(context.Background(), fence.Of(lock, 0))
	for place, write := range to.all(0) {
		if err := write(ctx); err != nil {
			return fmt.Errorf("claim at %s: %w", place, err)
		}
	}
	fmt.Println("claimed")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	for place, write := range to.all(os.Getpid()) {
		switch err := write(ctx); {
		case err == nil:
			fmt.Println(place + ": written")
		case errors.Is(err, fence.ErrStale):
			fmt.Println(place + ": stale")
		default:
			fmt.Printf("%s: %v\n", place, err)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // holds on
	return nil
}

// all yields a write of a balance for each place, in a fixed order; 0 only claims.
func (to places) all(balance int) func(yield func(string, func(context.Context) error) bool) {
	return func(yield func(string, func(context.Context) error) bool) {
		if !yield("http", to.put) || !yield("grpc", to.call) {
			return
		}
		for _, d := range to.Databases {
			if !yield(d.Name, func(ctx context.Context) error { return update(ctx, d, balance) }) {
				return
			}
		}
	}
}

func (to places) put(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, to.HTTP, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &fencehttp.Transport{}}).Do(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := fencehttp.Stale(resp); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func (to places) call(ctx context.Context) error {
	conn, err := grpc.NewClient(to.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(fencegrpc.UnaryClient))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, new(grpc_health_v1.HealthCheckRequest))
	return err
}

func update(ctx context.Context, d *dbserver.Database, balance int) error {
	db, err := d.Open()
	if err != nil {
		return err
	}
	defer db.Close()
	token, _ := fence.FromContext(ctx)
	return d.Dialect.Tx(ctx, db, nil, account, token, func(tx *sql.Tx) error {
		if balance == 0 {
			return nil
		}
		return setBalance(ctx, tx, balance)
	})
}
