// Mate is a process of a fleet in which two revisions of the library meet: it takes one name again
// and again, and tells when it holds. It is built against both, so it uses only what both export.
//
//	mate ENDPOINTS PRIMITIVE NAME
//
// It ends when its standard input does. Each line that it writes is an event: a word, the time, and
// for "holds" the token and how much of the capacity is held. The times are those of the machine's
// monotonic clock, which all processes of the fleet share.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

func main() {
	if err := work(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "mate:", err)
		os.Exit(1)
	}
}

const ttl = 3 * time.Second

func work(endpoints, primitive, name string) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(endpoints, ","), Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	starting, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := etcdlock.NewSession(starting, client, etcdlock.WithTTL(ttl), etcdlock.WithLogger(zap.NewNop()))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin))
		stop()
	}()
	acquire := acquisitions(s, primitive, name)
	if acquire == nil {
		return fmt.Errorf("no such primitive: %s", primitive)
	}
	for ctx.Err() == nil {
		h, weight, release, err := acquire(ctx)
		if err != nil {
			pause(ctx, 20*time.Millisecond) // cut off, or the lease was lost
			continue
		}
		hold(h, weight)
		// Whether it is confirmed or not, it is over. What is unconfirmed is for the session to delete.
		try, cancel := context.WithTimeout(context.Background(), ttl)
		_ = release(try)
		cancel()
		pause(ctx, time.Duration(rand.IntN(10))*time.Millisecond)
	}
	closing, cancel := context.WithTimeout(context.Background(), 2*ttl)
	defer cancel()
	return s.Close(closing)
}

// held is what the handles of all primitives have.
type held interface {
	Done() <-chan struct{}
	Deadline() time.Time
	Token() int64
}

// hold holds for a while, and tells until when it may believe that.
func hold(h held, weight int) {
	if h.Deadline().IsZero() {
		return // it was lost before it was told
	}
	// The times err towards a shorter hold: it began before this one.
	say("holds", int64(now()), h.Token(), weight)
	for end := time.Now().Add(time.Duration(1+rand.IntN(30)) * time.Millisecond); time.Now().Before(end); {
		deadline := h.Deadline()
		if deadline.IsZero() {
			break
		}
		// A process that is stopped, or killed, after this line believes in nothing after the deadline.
		say("until", int64(now()+time.Until(deadline)))
		select {
		case <-h.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	say("over", int64(now()))
}

type acquisition func(ctx context.Context) (held, int, func(context.Context) error, error)

// capacity is what there is to be held: all of it by a writer, and one by each reader. There are as many
// processes, so that all can read.
const capacity = 4

// acquisitions are what a process does with a primitive; nil if there is no such one.
func acquisitions(s *etcdlock.Session, primitive, name string) acquisition {
	switch primitive {
	case "Mutex":
		return func(ctx context.Context) (held, int, func(context.Context) error, error) {
			l, err := etcdlock.NewMutex(s, name).Lock(ctx)
			if err != nil {
				return nil, 0, nil, err
			}
			return l, capacity, l.Unlock, nil
		}
	case "RWMutex":
		m := etcdlock.NewRWMutex(s, name)
		return func(ctx context.Context) (held, int, func(context.Context) error, error) {
			if rand.IntN(2) == 0 {
				l, err := m.Lock(ctx)
				if err != nil {
					return nil, 0, nil, err
				}
				return l, capacity, l.Unlock, nil
			}
			l, err := m.RLock(ctx)
			if err != nil {
				return nil, 0, nil, err
			}
			return l, 1, l.Unlock, nil
		}
	case "Semaphore":
		m := etcdlock.NewSemaphore(s, name, capacity)
		return func(ctx context.Context) (held, int, func(context.Context) error, error) {
			n := 1 + rand.IntN(3)
			p, err := m.Acquire(ctx, n)
			if err != nil {
				return nil, 0, nil, err
			}
			return p, n, p.Release, nil
		}
	case "Election":
		e := etcdlock.NewElection(s, name)
		return func(ctx context.Context) (held, int, func(context.Context) error, error) {
			t, err := e.Campaign(ctx, "mate")
			if err != nil {
				return nil, 0, nil, err
			}
			_ = t.Proclaim(ctx, "mate leads") // what fails under faults is proclaimed by the next term
			return t, capacity, t.Resign, nil
		}
	}
	return nil
}

func say(what string, args ...any) { fmt.Println(append([]any{what}, args...)...) }

// now is the time of the clock that all processes of the machine share.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
