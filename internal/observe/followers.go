// Package observe reports the leader of each election to any number of observers. All observers of
// one election share one follower, and with it one watch in etcd.
//
// Followers owns the followers of one session, and the history of each. outages owns the TTLs of
// leaders' leases, by which it marks a leader that may have given up during an outage of etcd.
package observe

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/broadcast"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// Config is what a session gives to its followers. The functions may be called at any time until
// Close has returned.
type Config struct {
	Queue      func(name string) *queue.Queue // the queue of an election in etcd
	Outage     func() timeline.Outage         // the last outage of etcd
	Leases     clientv3.Lease                 // asks etcd for the TTL of a lease
	DefaultTTL func() time.Duration           // the TTL of a lease of which etcd does not tell it
}

// Followers are the followers of one session. It is safe for concurrent use.
type Followers struct {
	queue   func(name string) *queue.Queue
	outages outages
	life    context.Context // ends with Close, with its cause
	end     context.CancelCauseFunc
	tasks   sync.WaitGroup // one goroutine for each follower

	// mu guards followers, and the fields of each follower. A function of Config is never called
	// with it held.
	mu        sync.Mutex
	followers map[string]*follower // by the name of the election
}

// follower follows one election. It ends with its last observer.
type follower struct {
	stop      context.CancelFunc
	observers int
	history   history
	err       error            // the reason why no change will follow; nil while the follower continues
	news      broadcast.Signal // of changes of history and err
}

// New makes the followers of a session. It starts no goroutine.
func New(cfg Config) *Followers {
	fs := &Followers{
		queue:     cfg.Queue,
		outages:   outages{last: cfg.Outage, leases: cfg.Leases, defaultTTL: cfg.DefaultTTL},
		followers: make(map[string]*follower),
	}
	fs.life, fs.end = context.WithCancelCause(context.Background())
	return fs
}

// Close ends all followers, and all calls of Observe with the cause. It blocks until the goroutines
// of the followers have ended.
func (fs *Followers) Close(cause error) {
	fs.mu.Lock()
	fs.end(cause) // no follower begins after this
	fs.mu.Unlock()
	fs.tasks.Wait()
}

// AnyName returns the name of an election that is observed; ok is false if there is none.
func (fs *Followers) AnyName() (name string, ok bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for n := range fs.followers {
		if !ok || n < name { // the same one each time, for tests that repeat a schedule
			name, ok = n, true
		}
	}
	return name, ok
}

// Observe reports the leader of an election, first the present one and then each change. It blocks
// until report returns false or ctx ends, and then returns nil. Otherwise the error is the reason
// why the election cannot be followed: the cause of Close, or an answer of etcd.
func (fs *Followers) Observe(ctx context.Context, name string, report func(queue.Head) bool) error {
	f, o, err := fs.join(name)
	if err != nil {
		return err
	}
	defer fs.leave(name, f)

	if o.late {
		// The follower may be out of date, as when etcd is out of reach. The first report to an
		// observer that joins it is of its own reading (trap B9).
		head, err := fs.First(ctx, name)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !report(head) {
			return nil
		}
		o.last = &head
	}
	for {
		head, news, err := fs.next(f, &o)
		switch {
		case ctx.Err() != nil:
			return nil
		case head != nil:
			if !report(*head) {
				return nil
			}
			continue
		case err != nil:
			return err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// First reads the leader of an election, with one request, and with a second one after an outage of
// etcd. It blocks until etcd has answered or ctx ends. After Close the error is the cause of Close.
func (fs *Followers) First(ctx context.Context, name string) (queue.Head, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(fs.life, func() { cancel(context.Cause(fs.life)) })()
	head, err := fs.queue(name).AwaitFirst(ctx)
	if err != nil {
		return queue.Head{}, err
	}
	return fs.outages.mark(ctx, head), nil
}

// join returns the follower of an election for another observer, and starts it for the first one.
func (fs *Followers) join(name string) (*follower, observer, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.life.Err() != nil {
		return nil, observer{}, context.Cause(fs.life)
	}
	f := fs.followers[name]
	if f == nil {
		f = &follower{}
		var ctx context.Context
		ctx, f.stop = context.WithCancel(fs.life)
		fs.followers[name] = f
		fs.tasks.Go(func() { fs.follow(ctx, name, f) })
	}
	f.observers++
	return f, f.history.observer(), nil
}

// leave ends the follower with its last observer.
func (fs *Followers) leave(name string, f *follower) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.observers--; f.observers == 0 {
		fs.forget(name, f)
		f.stop()
	}
}

// forget makes the next observer start another follower. Called with mu held.
func (fs *Followers) forget(name string, f *follower) {
	if fs.followers[name] == f {
		delete(fs.followers, name)
	}
}

// next returns the head that is reported to an observer next. If there is none yet it returns a
// channel that is closed when there may be, or the reason why there will be none.
func (fs *Followers) next(f *follower, o *observer) (head *queue.Head, news <-chan struct{}, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if head = f.history.next(o); head != nil || f.err != nil {
		return head, nil, f.err
	}
	return nil, f.news.Changed(), nil
}

// follow follows an election until ctx ends or etcd refuses.
func (fs *Followers) follow(ctx context.Context, name string, f *follower) {
	err := fs.queue(name).FollowReadings(ctx, func(head queue.Head) bool {
		head = fs.outages.mark(ctx, head)
		fs.mu.Lock()
		defer fs.mu.Unlock()
		f.history.add(head)
		f.news.Broadcast()
		return true
	})
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.forget(name, f)
	f.err = err
	f.news.Broadcast()
}
