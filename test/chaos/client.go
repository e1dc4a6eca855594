package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The client is a process of its own that runs one workload: it acquires, holds and
// releases the lock that its group shares, again and again, and holds another one, its
// own, all the time. It tells what it does on its standard output and takes orders on
// its standard input.

// settings is what a client is started with.
type settings struct {
	Library   string
	Kind      string
	Shared    string // the name that the group contends for
	Own       string // the name that no other client wants
	TTL       time.Duration
	Endpoints []string
	Resource  string
	Impatient bool // gives up often
}

// Orders.
const (
	keep = "keep" // hold the shared lock, the next time that it is held, until told to go
	goOn = "go"
	idle = "idle" // release everything, but stay
	quit = "quit"
)

func clientMain() int {
	var set settings
	if err := json.Unmarshal([]byte(os.Getenv(clientEnv)), &set); err != nil {
		fmt.Fprintln(os.Stderr, "chaos client:", err)
		return 2
	}
	if err := runClient(set); err != nil {
		fmt.Fprintln(os.Stderr, "chaos client:", err)
		return 1
	}
	return 0
}

type client struct {
	set      settings
	etcd     *clientv3.Client
	library  library
	kind     kind
	resource *writer

	out sync.Mutex // one line at a time
	enc *json.Encoder

	mu      sync.Mutex
	session session       // the present one
	seq     int           // of the last attempt
	kept    bool          // the order
	release chan struct{} // closed by the order to go on
}

func runClient(set settings) error {
	c := &client{set: set, enc: json.NewEncoder(os.Stdout), release: make(chan struct{})}
	for _, l := range libraries {
		if l.name == set.Library {
			c.library = l
		}
	}
	for _, k := range kinds {
		if k.name == set.Kind {
			c.kind = k
		}
	}
	if c.library.open == nil || c.kind.weight == nil {
		return fmt.Errorf("no workload %s of %s", set.Kind, set.Library)
	}
	var err error
	if c.resource, err = newWriter(set.Resource); err != nil {
		return err
	}
	c.etcd, err = clientv3.New(clientv3.Config{Endpoints: set.Endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer c.etcd.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var work sync.WaitGroup
	if _, err := c.present(ctx); err != nil {
		return err
	}
	c.tell(event{What: isUp})
	// The shared name is held for a moment, with a break; the own one for good.
	work.Go(func() { c.repeat(ctx, set.Shared, c.share, c.moment) })
	work.Go(func() { c.repeat(ctx, set.Own, c.whole, c.lasting) })
	if set.Impatient {
		work.Go(func() { c.pass(ctx) })
	}
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		switch orders.Text() {
		case keep:
			c.setKept(true)
		case goOn:
			c.setKept(false)
		case idle:
			cancel()
			work.Wait()
			c.tell(event{What: isIdle})
		case quit:
			cancel()
			work.Wait()
			return c.leave()
		}
	}
	return errors.New("left alone") // the runner has gone
}

func (c *client) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e := event{What: isClosed, Call: now()}
	if c.session != nil {
		e.Error = text(c.session.close(ctx))
	}
	c.tell(e)
	return nil
}

func (c *client) tell(e event) {
	if e.At == 0 {
		e.At = now()
	}
	c.out.Lock()
	defer c.out.Unlock()
	if c.enc.Encode(e) != nil {
		os.Exit(1) // there is no listener
	}
}

func (c *client) setKept(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == on {
		return
	}
	if c.kept = on; on {
		c.release = make(chan struct{})
	} else {
		close(c.release)
	}
}

func (c *client) order() (kept bool, release <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept, c.release
}

func (c *client) whole() int { return c.kind.capacity }

// share is how much of the lock to ask for. What is to be kept is kept from all others.
func (c *client) share() int {
	if kept, _ := c.order(); kept {
		return c.whole()
	}
	return c.kind.weight()
}

// present is the session to use, a new one if the last has ended.
func (c *client) present(ctx context.Context) (session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != nil {
		select {
		case <-c.session.ended():
		default:
			return c.session, nil
		}
	}
	s, err := c.library.open(ctx, c.etcd, c.set.TTL)
	if err != nil {
		return nil, err
	}
	c.session = s
	return s, nil
}

// use is what is done with a hold; false if it was lost.
type use func(context.Context, hold, *event) bool

// repeat does it again and again.
func (c *client) repeat(ctx context.Context, name string, weight func() int, use use) {
	for ctx.Err() == nil {
		c.attempt(ctx, name, weight(), use)
	}
}

// pass locks names that are used only once, as with one lock for each order. A key that is left behind
// under such a name blocks no later call, so no wait shows it.
func (c *client) pass(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		c.attempt(ctx, fmt.Sprintf("%s-once-%d-%d", c.set.Shared, os.Getpid(), n), c.whole(), c.moment)
	}
}

// attempt acquires, holds as use says, releases, and pauses.
func (c *client) attempt(ctx context.Context, name string, weight int, use use) {
	e := event{Name: name, Weight: weight}
	c.mu.Lock()
	c.seq++
	e.Seq = c.seq
	c.mu.Unlock()
	pause := time.Duration(rand.IntN(20)) * time.Millisecond
	if err := c.once(ctx, e, use); err != nil {
		pause = 50 * time.Millisecond
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

func (c *client) once(ctx context.Context, e event, use use) error {
	e.Call = now()
	h, err := c.acquire(ctx, e)
	e.At = now()
	if err != nil {
		e.What, e.Error = isFailed, err.Error()
		c.tell(e)
		return err
	}
	e.What, e.Token, e.Key = isHeld, h.token(), h.key()
	c.tell(e)
	c.resource.write(e.Name, e.Token, e.Weight == c.whole())

	over := e
	over.Call = 0
	if use(ctx, h, &over) {
		over.What, over.At = isOver, now()
	} else {
		over.What, over.At = isLost, now()
		over.Error = text(h.why())
		// A process that does not know of its loss yet still writes.
		over.Late = c.resource.write(e.Name, e.Token, e.Weight == c.whole())
	}
	c.tell(over)

	freed := e
	freed.What, freed.Call = isFreed, now()
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.set.TTL)
	defer cancel()
	freed.Error = text(h.release(within))
	freed.At = now()
	c.tell(freed)
	return nil
}

func (c *client) acquire(ctx context.Context, e event) (hold, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience(e.Name))
	defer cancel()
	s, err := c.present(ctx)
	if err != nil {
		return nil, err
	}
	return s.acquire(ctx, c.set.Kind, e.Name, e.Weight)
}

// patience is for how long a caller waits.
func (c *client) patience(name string) time.Duration {
	if c.set.Impatient && name != c.set.Own && rand.IntN(2) == 0 {
		return time.Duration(50+rand.IntN(250)) * time.Millisecond
	}
	return 5 * c.set.TTL
}

// moment holds for some milliseconds, or as long as the order is to keep it; false if
// it was lost.
func (c *client) moment(ctx context.Context, h hold, e *event) bool {
	if kept, release := c.order(); kept && e.Weight == c.whole() {
		told := *e
		told.What, told.At, told.Kept = isKept, now(), true
		c.tell(told)
		e.Kept = true
		return c.work(ctx, h, e, release)
	}
	pause := time.After(time.Duration(2+rand.IntN(20)) * time.Millisecond)
	select {
	case <-h.lost():
		return false
	case <-pause:
		return true
	}
}

// lasting holds until it is lost or the client is told to be idle.
func (c *client) lasting(ctx context.Context, h hold, e *event) bool {
	return c.work(ctx, h, e, nil)
}

// work writes to the resource until an end comes; false if the hold was lost.
func (c *client) work(ctx context.Context, h hold, e *event, release <-chan struct{}) bool {
	beat := time.NewTicker(20 * time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case <-h.lost():
			return false
		case <-release:
			return true
		case <-ctx.Done():
			return true
		case <-beat.C:
			c.resource.write(e.Name, e.Token, e.Weight == c.whole())
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
