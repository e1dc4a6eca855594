// Command load measures what the page of lockui costs by the number of its viewers: requests to etcd,
// processor time and memory, on 1,000 names that change all the time.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
	"github.com/etcdlock/etcdlock/lockui"
)

const (
	names   = 1000
	changes = 500 // in a second
	warmUp  = 5 * time.Second
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		check(serve(os.Args[2]))
		return
	}
	seconds := 30
	if len(os.Args) > 1 {
		var err error
		seconds, err = strconv.Atoi(os.Args[1])
		check(err)
	}
	check(measure(time.Duration(seconds) * time.Second))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// figures are those of the page's process.
type figures struct {
	Requests int64 // to etcd, the messages on streams included
	CPU      time.Duration
	Memory   int64 // the largest resident size, in KiB
}

// serve serves the page in a process of its own. A line on its standard input makes it print its figures.
func serve(endpoint string) error {
	var sent atomic.Int64
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			sent.Add(1)
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			return counted{s, &sent}, err
		}),
	}})
	if err != nil {
		return err
	}
	defer client.Close()
	ui, err := lockui.New(client, lockui.WithPrefix("load/"))
	if err != nil {
		return err
	}
	defer ui.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: ui, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var usage syscall.Rusage
		check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
		f := figures{sent.Load(), time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), usage.Maxrss}
		check(json.NewEncoder(os.Stdout).Encode(f))
	}
	return server.Close()
}

// counted counts the messages that are sent on a stream.
type counted struct {
	grpc.ClientStream
	sent *atomic.Int64
}

func (c counted) SendMsg(m any) error {
	c.sent.Add(1)
	return c.ClientStream.SendMsg(m)
}

// child is a process of this program or of the command.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(file string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(file, args...)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *child) line() (string, error) {
	line, err := c.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (c *child) figures() (f figures, err error) {
	if _, err := fmt.Fprintln(c.in); err != nil {
		return f, err
	}
	line, err := c.line()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal([]byte(line), &f)
}

func (c *child) end() {
	_ = c.in.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	_ = c.cmd.Wait()
}

func measure(each time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "etcdlock-load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	command := filepath.Join(dir, "etcdlock")
	build := exec.CommandContext(ctx, "go", "build", "-o", command, ".")
	build.Dir, build.Stderr = filepath.Join("..", "..", "cmd", "etcdlock"), os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	etcd, err := start(command, "serve-dev", "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer etcd.end()
	line, err := etcd.line()
	if err != nil {
		return err
	}
	endpoint := strings.TrimPrefix(line, "export ETCDCTL_ENDPOINTS=")
	var done atomic.Int64
	writers, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	if err := change(writers, &all, endpoint, &done); err != nil {
		return err
	}
	fmt.Printf("%d names, %d changes in a second wanted, %v for each row, %d processors\n\n", names, changes, each, runtime.NumCPU())
	fmt.Println("| viewers | changes/s | requests to etcd/s | processor | memory | sent to viewers | messages to one |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, viewers := range []int{0, 1, 10, 100} {
		if err := row(ctx, endpoint, viewers, each, &done); err != nil {
			return err
		}
	}
	return nil
}

// row measures one number of viewers.
func row(ctx context.Context, endpoint string, viewers int, each time.Duration, done *atomic.Int64) error {
	page, err := start(os.Args[0], "serve", endpoint)
	if err != nil {
		return err
	}
	defer page.end()
	address, err := page.line()
	if err != nil {
		return err
	}
	viewing, cancel := context.WithCancel(ctx)
	var (
		all             sync.WaitGroup
		bytes, messages atomic.Int64
	)
	defer all.Wait()
	defer cancel()
	for i := range viewers {
		all.Go(func() { view(viewing, fmt.Sprintf("http://%s/names?page=%d", address, i%10+1), &bytes, &messages) })
	}
	time.Sleep(warmUp)
	before, err := page.figures()
	if err != nil {
		return err
	}
	changed, sent, pushed, began := done.Load(), bytes.Load(), messages.Load(), time.Now()
	time.Sleep(each)
	after, err := page.figures()
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	per := "0"
	if viewers > 0 {
		per = fmt.Sprintf("%.1f/s", float64(messages.Load()-pushed)/float64(viewers)/took)
	}
	fmt.Printf("| %d | %.0f | %.1f | %.0f %% of one | %.0f MiB | %.1f MB/s | %s |\n", viewers, float64(done.Load()-changed)/took,
		float64(after.Requests-before.Requests)/took, (after.CPU-before.CPU).Seconds()/took*100, float64(after.Memory)/1024,
		float64(bytes.Load()-sent)/1e6/took, per)
	return nil
}

// change makes each name change: its lock is granted, and released.
func change(ctx context.Context, all *sync.WaitGroup, endpoint string, done *atomic.Int64) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	lease, err := client.Grant(ctx, 60)
	if err != nil {
		return err
	}
	alive, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	put := func(i int) error {
		h := wire.Holder{Owner: fmt.Sprint("worker-", i%50), Host: "host-a", PID: i%50 + 1, Since: time.Now().UTC()}
		_, err := client.Put(ctx, wire.Key(fmt.Sprintf("load/job-%04d", i), lease.ID), h.Encode(), clientv3.WithLease(lease.ID))
		return err
	}
	for i := range names {
		if err := put(i); err != nil {
			return err
		}
	}
	all.Go(func() {
		for range alive {
		}
	})
	all.Go(func() {
		defer client.Close()
		tick := time.NewTicker(time.Second / changes)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			if put(i%names) == nil {
				done.Add(1)
			}
		}
	})
	return nil
}

// view follows a page as a browser does.
func view(ctx context.Context, address string, bytes, messages *atomic.Int64) {
	for ctx.Err() == nil {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return
		}
		q.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			continue
		}
		for in := bufio.NewReader(resp.Body); ; {
			line, err := in.ReadString('\n')
			bytes.Add(int64(len(line)))
			if err != nil {
				break
			}
			if strings.HasPrefix(line, "data: ") {
				messages.Add(1)
			}
		}
		_ = resp.Body.Close()
	}
}
