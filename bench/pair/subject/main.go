// Subject is the program that bench/pair builds against two revisions of the library. It reads
// one line for each measurement, and answers with one number: the time of an operation in
// microseconds. It uses only what both revisions export.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// A line: ROW NAME SECONDS. Names are fresh, so that no measurement meets what another one left.
func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "subject:", err)
		os.Exit(1)
	}
}

func serve() error {
	s := &subject{endpoints: strings.Split(os.Args[1], ",")}
	first, err := s.process()
	if err != nil {
		return err
	}
	s.sessions = []*etcdlock.Session{first}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var row, name string
		var seconds float64
		if _, err := fmt.Sscan(lines.Text(), &row, &name, &seconds); err != nil {
			return err
		}
		figure, err := s.measure(row, name, time.Duration(seconds*float64(time.Second)))
		if err != nil {
			return fmt.Errorf("%s: %w", row, err)
		}
		fmt.Println(figure)
	}
	return nil
}

// subject has clients with a session each, as processes would: made when first asked for.
type subject struct {
	endpoints []string
	sessions  []*etcdlock.Session
	requests  requests
}

func (s *subject) process() (*etcdlock.Session, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: s.endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop(), DialOptions: s.requests.options()})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return etcdlock.NewSession(ctx, client, etcdlock.WithTTL(30*time.Second))
}

// several are n sessions on clients of their own.
func (s *subject) several(n int) ([]*etcdlock.Session, error) {
	for len(s.sessions) < n {
		next, err := s.process()
		if err != nil {
			return nil, err
		}
		s.sessions = append(s.sessions, next)
	}
	return s.sessions[:n], nil
}

// measure does ROW for a while. Rows that have a number behind their name take it as theirs.
func (s *subject) measure(row, name string, span time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), span+30*time.Second)
	defer cancel()
	of, ask := costRow(row)
	kind, number, _ := strings.Cut(of, "-")
	n, _ := strconv.Atoi(number)
	one := s.sessions[0]
	switch kind {
	case "alone":
		return s.pairs(ctx, span, []caller{lockPair(etcdlock.NewMutex(one, name))})
	case "after": // alone again, a while after another client wanted the name
		return s.after(ctx, name, span)
	case "campaign":
		e := etcdlock.NewElection(one, name)
		return s.pairs(ctx, span, []caller{func(ctx context.Context) error {
			term, err := e.Campaign(ctx, "me")
			if err != nil {
				return err
			}
			return term.Resign(ctx)
		}})
	case "retained":
		return s.pairs(ctx, span, []caller{lockPair(etcdlock.NewMutex(one, name, etcdlock.WithRetention(10*time.Second)))})
	case "local": // goroutines of one process, one name
		mu := etcdlock.NewMutex(one, name)
		return s.pairs(ctx, span, repeat(n, func(int) caller { return lockPair(mu) }))
	case "names": // goroutines of one process, a name each
		return s.pairs(ctx, span, repeat(n, func(i int) caller {
			return lockPair(etcdlock.NewMutex(one, fmt.Sprintf("%s/%d", name, i)))
		}))
	case "processes", "again": // clients with a session each, one name
		all, err := s.several(n)
		if err != nil {
			return 0, err
		}
		callers := repeat(n, func(i int) caller { return lockPair(etcdlock.NewMutex(all[i], name)) })
		if kind == "again" { // another caller of the session waits at each release
			callers = repeat(2*n, func(i int) caller { return lockPair(etcdlock.NewMutex(all[i/2], name, etcdlock.WithTimeSlice(0))) })
		}
		if ask != nil {
			c, err := s.perPair(ctx, span, callers)
			c.report(row)
			return ask(c), err
		}
		return s.pairs(ctx, span, callers)
	case "handover":
		return s.handover(ctx, name, time.Duration(n)*time.Millisecond, span)
	case "rest":
		return s.rest(ctx, name, n)
	}
	return 0, fmt.Errorf("no such row")
}

// after has two clients meet at a name once, and one go on alone. It counts when a queue that was
// contended is alone for good.
func (s *subject) after(ctx context.Context, name string, span time.Duration) (float64, error) {
	two, err := s.several(2)
	if err != nil {
		return 0, err
	}
	if _, err := s.handover(ctx, name, 5*time.Millisecond, 0); err != nil {
		return 0, err
	}
	pair := []caller{lockPair(etcdlock.NewMutex(two[0], name))}
	if _, err := s.pairs(ctx, 1200*time.Millisecond, pair); err != nil {
		return 0, err
	}
	return s.pairs(ctx, span, pair)
}

type caller func(context.Context) error

func lockPair(mu *etcdlock.Mutex) caller {
	return func(ctx context.Context) error {
		lock, err := mu.Lock(ctx)
		if err != nil {
			return err
		}
		return lock.Unlock(ctx)
	}
}

func repeat(n int, make func(i int) caller) []caller {
	var all []caller
	for i := range n {
		all = append(all, make(i))
	}
	return all
}

// pairs has all callers go on for a while, after a tenth of it to warm up, and returns the time that
// one pair took of all.
func (s *subject) pairs(ctx context.Context, span time.Duration, callers []caller) (float64, error) {
	begin := time.Now().Add(span / 10)
	end := begin.Add(span)
	var mu sync.Mutex
	var failed error
	counted := 0
	var all sync.WaitGroup
	for _, call := range callers {
		all.Go(func() {
			n := 0
			for {
				err := call(ctx)
				now := time.Now()
				if err == nil && now.After(begin) && now.Before(end) {
					n++
				}
				if err != nil || !now.Before(end) {
					mu.Lock()
					defer mu.Unlock()
					counted += n
					if err != nil {
						failed = err
					}
					return
				}
			}
		})
	}
	all.Wait()
	if failed == nil && counted == 0 {
		failed = fmt.Errorf("no pair in %v", span)
	}
	return span.Seconds() * 1e6 / float64(counted), failed
}

// handover is the mean time from Unlock to the grant of a waiter that is so old.
func (s *subject) handover(ctx context.Context, name string, age, span time.Duration) (float64, error) {
	two, err := s.several(2)
	if err != nil {
		return 0, err
	}
	var total time.Duration
	n := 0
	for end := time.Now().Add(span); time.Now().Before(end) || n == 0; n++ {
		mine, theirs := etcdlock.NewMutex(two[n%2], name), etcdlock.NewMutex(two[(n+1)%2], name)
		held, err := mine.Lock(ctx)
		if err != nil {
			return 0, err
		}
		type grant struct {
			lock *etcdlock.Lock
			at   time.Time
			err  error
		}
		granted := make(chan grant, 1)
		go func() {
			lock, err := theirs.Lock(ctx)
			granted <- grant{lock, time.Now(), err}
		}()
		// The age counts from the entry into the queue.
		for entries := 0; entries < 2; {
			queue, err := mine.Queue(ctx)
			if err != nil {
				return 0, err
			}
			entries = len(queue)
		}
		time.Sleep(age)
		began := time.Now()
		if err := held.Unlock(ctx); err != nil {
			return 0, err
		}
		next := <-granted
		if next.err != nil {
			return 0, next.err
		}
		total += next.at.Sub(began)
		if err := next.lock.Unlock(ctx); err != nil {
			return 0, err
		}
	}
	return total.Seconds() * 1e6 / float64(n), nil
}

// rest is the memory of one of n locks that are held and have lasted, in bytes: heap and stacks.
func (s *subject) rest(ctx context.Context, name string, n int) (float64, error) {
	session, err := s.process()
	if err != nil {
		return 0, err
	}
	defer session.Client().Close()
	defer session.Close(ctx)
	used := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	before := used()
	locks := make([]*etcdlock.Lock, n)
	errs := make(chan error, n)
	for i := range locks {
		go func() {
			var err error
			locks[i], err = etcdlock.NewMutex(session, fmt.Sprintf("%s/%d", name, i)).Lock(ctx)
			errs <- err
		}()
	}
	for range locks {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	time.Sleep(time.Second) // what is only for young ones is over
	after := used()
	runtime.KeepAlive(locks)
	return (after - before) / float64(n), nil
}
