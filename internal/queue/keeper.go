package queue

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Keeper watches the keys of all holds of a session that last. It has one goroutine, which runs while
// there is a guard. This goroutine never waits for etcd: it starts a bounded number of jobs, which open
// watches or read the keys that are due, many by one request. So a hold needs no goroutine, a session
// with many holds sends few requests, and some requests that hang keep nothing else from its turn.
type Keeper struct {
	*shared
	start func(run func()) // starts the goroutine
	born  time.Time

	mu      sync.Mutex
	inbox   []func() // for the goroutine
	running bool
	wake    chan struct{} // holds one

	// Of the goroutine only.
	guards  dueGuards     // all of them
	unread  []*Guard      // those that are to be read
	closed  []*Guard      // those without an open watch
	opening int           // jobs that open a watch
	working int           // those, and those that listen to a watch by etcd's client
	reading int           // jobs that read
	readAt  time.Duration // when the last of them began
	jobs    sync.WaitGroup
}

// mostOpening is the number of watches of a session that are opened at a time. After a stream broke,
// those of thousands of holds are to be opened again.
const mostOpening = 64

// mostReading is the number of readings of a session that are under way at a time.
const mostReading = 8

// gathering is for how long keys are gathered for the next reading while another one is under way. After
// that it is taken to hang.
const gathering = 100 * time.Millisecond

// mostRead is the number of keys that are read by one request. It takes at most two operations for
// each key, which stays below a server's default limit.
const mostRead = 40

// ahead is how much earlier than due a key is read together with others that are due.
const ahead = holdResync / 10

// Keeper makes the keeper of the session. start starts its goroutine, which ends when no guard is left
// and with the life of the queues. It is called by Guard.
func (s *Queues) Keeper(start func(run func())) *Keeper {
	return &Keeper{shared: s.shared, start: start, born: time.Now(), wake: make(chan struct{}, 1)}
}

// now is the time, as the timers of guards have it.
func (k *Keeper) now() time.Duration { return time.Since(k.born) }

// add begins a guard, with a watch from a revision on.
func (k *Keeper) add(g *Guard, from int64) {
	k.mu.Lock()
	start := !k.running
	k.running = true // idle sees this, and what is put, or neither
	k.put(func() {
		heap.Push(&k.guards, g)
		g.restart(from, 0)
	})
	k.mu.Unlock()
	if start {
		k.start(k.run)
	}
}

// post has the goroutine call a function.
func (k *Keeper) post(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running { // else no guard is left
		k.put(f)
	}
}

// put is post with k.mu held.
func (k *Keeper) put(f func()) {
	k.inbox = append(k.inbox, f)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine.
func (k *Keeper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for k.life.Err() == nil {
		k.handle()
		k.fireDue()
		k.startJobs()
		if k.idle() {
			return
		}
		next := k.nextReading()
		if len(k.guards) > 0 {
			next = min(next, k.guards[0].due)
		}
		timer.Reset(next - k.now())
		select {
		case <-timer.C:
		case <-k.wake:
		case <-k.life.Done():
		}
	}
	for len(k.guards) > 0 {
		k.guards[0].end()
	}
	k.jobs.Wait()
	k.handle()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = false
}

// fireDue fires what is due, and what is to be read soon together with that.
func (k *Keeper) fireDue() {
	now := k.now()
	for len(k.guards) > 0 {
		g := k.guards[0]
		early := len(k.unread)%mostRead > 0 && g.reads() && g.due < now+ahead
		if g.due > now && !early {
			return
		}
		g.fire()
	}
}

// handle calls what was posted.
func (k *Keeper) handle() {
	k.mu.Lock()
	inbox := k.inbox
	k.inbox = nil
	k.mu.Unlock()
	for _, f := range inbox {
		f()
	}
}

// idle ends the goroutine if there is nothing to do.
func (k *Keeper) idle() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = len(k.guards) > 0 || len(k.inbox) > 0 || k.working > 0 || k.reading > 0
	return !k.running
}

// startJobs starts what is to be done and may be.
func (k *Keeper) startJobs() {
	n := 0
	for ; n < len(k.closed) && k.opening < mostOpening; n++ {
		if g := k.closed[n]; !g.over {
			g.startOpening()
		}
	}
	k.closed = slices.Delete(k.closed, 0, n)
	for k.now() >= k.nextReading() {
		k.startReading(min(len(k.unread), mostRead))
	}
}

// nextReading is when the next reading may begin.
func (k *Keeper) nextReading() time.Duration {
	switch {
	case len(k.unread) == 0 || k.reading == mostReading:
		return never
	case len(k.unread) >= mostRead || k.reading == 0:
		return 0
	default:
		return k.readAt + gathering
	}
}

// startReading reads the keys of the first n guards that are to be read, in a job.
func (k *Keeper) startReading(n int) {
	batch := make([]*reading, 0, n)
	for _, g := range k.unread[:n] {
		if g.unread = false; !g.over {
			batch = append(batch, g.reading())
		}
	}
	k.unread = slices.Delete(k.unread, 0, n)
	if len(batch) > 0 {
		k.reading++
		k.readAt = k.now()
		k.jobs.Go(func() { k.read(batch) })
	}
}

// read reads the keys of some guards.
func (k *Keeper) read(batch []*reading) {
	k.readInParts(batch)
	k.post(func() {
		k.reading--
		for _, r := range batch {
			r.done()
		}
	})
}

// readInParts reads a batch by one request. If etcd refuses that, as for want of permission for one of
// the keys, it reads each half by itself.
func (k *Keeper) readInParts(batch []*reading) {
	err := k.readAll(batch)
	if half := len(batch) / 2; err != nil && half > 0 && k.life.Err() == nil {
		k.readInParts(batch[:half])
		k.readInParts(batch[half:])
		return
	}
	for _, r := range batch {
		r.err = err
	}
}

// reading is a reading of the key of a guard.
type reading struct {
	*Guard
	what   news   // why it is made: opened or due
	of     handle // of the watch that the guard had before; nil if there was none
	others int64  // how many keys of the queue are read; 0 if other entries are of no interest

	stands    bool // true: our key stands
	contended bool // true: there is another entry
	err       error
}

// readAll reads at one revision whether each key stands, and whether there are other entries.
func (k *Keeper) readAll(batch []*reading) error {
	for {
		var ops []clientv3.Op
		for _, r := range batch {
			ops = append(ops, clientv3.OpGet(r.entry.Key, clientv3.WithKeysOnly()))
			if r.others > 0 {
				all, end := r.queue()
				ops = append(ops, clientv3.OpGet(all, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(r.others)))
			}
		}
		before := k.tracker.Number()
		resp, err := ask(k.life, k.shared, int64(batch[0].entry.Lease), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return k.kv.Txn(ctx).Then(ops...).Commit()
		})
		if err != nil {
			return err
		}
		if before != k.tracker.Number() {
			continue // it may be of another timeline
		}
		answers, whole := resp.Responses, true
		for _, r := range batch {
			r.stands = r.entry.standsIn(only(answers[0].GetResponseRange().Kvs))
			answers = answers[1:]
			if r.others > 0 {
				whole = r.meets(answers[0].GetResponseRange()) && whole
				answers = answers[1:]
			}
		}
		if whole {
			return nil
		}
	}
}

// meets notes whether there is another entry among the keys that were read. If that cannot be seen by these, it
// returns false, and more are to be read.
func (r *reading) meets(read *pb.RangeResponse) (seen bool) {
	from, _ := r.queue()
	r.contended = slices.ContainsFunc(entriesOf(from, read.Kvs), func(kv *mvccpb.KeyValue) bool { return string(kv.Key) != r.entry.Key })
	if r.contended || !read.More {
		return true
	}
	r.others *= moreBeside
	return false
}

// dueGuards is a heap of all guards, by when they are due.
type dueGuards []*Guard

func (h dueGuards) Len() int           { return len(h) }
func (h dueGuards) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueGuards) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}

func (h *dueGuards) Push(x any) {
	g := x.(*Guard)
	g.index = int32(len(*h))
	*h = append(*h, g)
}

func (h *dueGuards) Pop() any {
	last := len(*h) - 1
	g := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return g
}
