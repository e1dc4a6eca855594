// Held measures what many locks cost that one session holds and that last: goroutines, heap and stack,
// and how long it takes until all of their contexts have ended, after the lease was revoked and at the
// deadline of a lease that etcd does not renew. It fails if a lock takes more than 1 KiB, or a goroutine.
//
//	go run ./held -locks 100000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

func main() {
	locks := flag.Int("locks", 100_000, "locks of the session")
	heap := flag.String("heap", "", "where a heap profile goes, taken while the locks are held")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *locks, *heap)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "held:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, locks int, heap string) error {
	var kids procs.Children
	defer kids.EndAll()
	etcd, err := etcdproc.Given(ctx, "", func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		return err
	}
	cluster, err := etcd.Start(ctx, &kids, etcdproc.Config{Size: 1})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	h := &holder{cluster: cluster, locks: make([]*etcdlock.Lock, locks), profile: heap}
	for _, end := range []func(context.Context) (time.Duration, error){h.revoke, h.expire} {
		if err := h.hold(ctx, end); err != nil {
			return err
		}
	}
	return h.fat
}

// holder is the process that holds the locks.
type holder struct {
	cluster *etcdproc.Cluster
	session *etcdlock.Session
	locks   []*etcdlock.Lock
	profile string
	fat     error // what a lock takes too much
}

// hold takes all locks, and prints what they cost and how long it took to lose all of them.
func (h *holder) hold(ctx context.Context, end func(context.Context) (time.Duration, error)) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: h.cluster.Endpoints(), DialTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer client.Close()
	if h.session, err = etcdlock.NewSession(ctx, client, etcdlock.WithTTL(ttl)); err != nil {
		return err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = h.session.Close(bounded)
	}()
	if err := h.lock(ctx, -1); err != nil { // what only the first one starts is not what each costs
		return err
	}
	before := look()
	began := time.Now()
	var all errgroup.Group
	all.SetLimit(256)
	for i := range h.locks {
		all.Go(func() error { return h.lock(ctx, i) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	took := time.Since(began)
	time.Sleep(settle)
	after := look()
	if h.profile != "" {
		if err := writeHeap(h.profile); err != nil {
			return err
		}
		h.profile = ""
	}
	n := float64(len(h.locks))
	fmt.Printf("%d locks, taken in %v: %d goroutines more, %.0f MB; for each %.0f bytes of heap and %.0f of stack\n",
		len(h.locks), took.Round(time.Millisecond), after.goroutines-before.goroutines,
		(after.heap+after.stack-before.heap-before.stack)/1e6, (after.heap-before.heap)/n, (after.stack-before.stack)/n)
	switch each := (after.heap - before.heap) / n; { // without the stacks: they are of goroutines that no lock has
	case each > most:
		h.fat = fmt.Errorf("%.0f bytes for each lock, which are more than %d", each, most)
	case after.goroutines-before.goroutines > own:
		h.fat = fmt.Errorf("%d goroutines more, which are more than %d", after.goroutines-before.goroutines, own)
	}
	ends := make([]<-chan struct{}, len(h.locks))
	for i, l := range h.locks {
		ends[i] = l.Context().Done()
	}
	late, err := end(ctx)
	if err != nil {
		return err
	}
	since := time.Now()
	for i := range ends {
		<-ends[i]
	}
	fmt.Printf("  all contexts ended %v after it\n", (late + time.Since(since)).Round(time.Millisecond))
	for i, l := range h.locks {
		if l.Err() == nil {
			return fmt.Errorf("lock %d goes on", i)
		}
	}
	clear(h.locks)
	return nil
}

const (
	ttl    = 15 * time.Second
	settle = 5 * time.Second // after which every key is watched
	most   = 1024            // bytes of heap for each lock
	own    = 16              // goroutines of a session
)

func (h *holder) lock(ctx context.Context, i int) error {
	l, err := etcdlock.NewMutex(h.session, fmt.Sprintf("held/%d", i)).Lock(ctx)
	if err == nil && i >= 0 {
		h.locks[i] = l
	}
	return err
}

// revoke has another client revoke the lease.
func (h *holder) revoke(ctx context.Context) (time.Duration, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: h.cluster.Endpoints(), DialTimeout: 10 * time.Second})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	began := time.Now()
	_, err = client.Revoke(ctx, h.session.Lease())
	fmt.Printf("  the lease was revoked in %v\n", time.Since(began).Round(time.Millisecond))
	return 0, err
}

// expire stops etcd until the deadline, which no renewal moves then.
func (h *holder) expire(ctx context.Context) (time.Duration, error) {
	member := h.cluster.Members[0]
	if err := member.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	defer func() { _ = member.Signal(syscall.SIGCONT) }()
	select {
	case <-time.After(time.Second): // a renewal that was answered before is counted by now
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	deadline := h.locks[0].Deadline()
	fmt.Printf("  etcd is stopped, and the deadline of the lease passes\n")
	time.Sleep(time.Until(deadline))
	return time.Since(deadline), nil
}

type sight struct {
	goroutines  int
	heap, stack float64
}

func look() sight {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return sight{runtime.NumGoroutine(), float64(m.HeapAlloc), float64(m.StackInuse)}
}

func writeHeap(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}
