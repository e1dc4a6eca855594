package mirror

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/broadcast"
)

const (
	leaseEvery   = 4 * time.Second  // between two reads of one lease
	leaseWanted  = 15 * time.Second // for which a lease is read after it was last shown
	leaseAtOnce  = 16               // concurrent reads
	leaseTimeout = 2 * time.Second
	leasePause   = 250 * time.Millisecond // between two rounds
	mostLeases   = 25                     // reads in one round, which bounds them to 100 in a second
)

// Left is what is left of a lease, as etcd has answered at a time.
type Left struct {
	TTL     time.Duration // the rest at that time; negative if the lease is gone
	Granted time.Duration
	At      time.Time
}

// Leases reads how much is left of the leases that are shown. A renewal is no event of a watch. The
// number of requests is bounded, and independent of the number of viewers.
type Leases struct {
	lease  clientv3.Lease
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	wake   chan struct{}

	mu      sync.Mutex
	known   map[clientv3.LeaseID]*shown
	version uint64
	changed broadcast.Signal
}

// shown is a lease that a viewer has seen lately.
type shown struct {
	Left
	wanted time.Time // when it was last shown
	asked  time.Time // when it was last asked for
}

// NewLeases starts to read leases as they are wanted, until Close.
func NewLeases(lease clientv3.Lease) *Leases {
	l := &Leases{lease: lease, wake: make(chan struct{}, 1), known: make(map[clientv3.LeaseID]*shown)}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	l.tasks.Go(func() { l.run(ctx) })
	return l
}

// Close ends all reads.
func (l *Leases) Close() {
	l.cancel()
	l.tasks.Wait()
}

// Version returns a number that grows when a lease was read, and a channel that is closed then.
func (l *Leases) Version() (uint64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version, l.changed.Changed()
}

// Left returns what is known of a lease, and has it read from now on. ok is false before the first
// answer.
func (l *Leases) Left(id clientv3.LeaseID) (left Left, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.known[id]
	if s == nil {
		s = &shown{}
		l.known[id] = s
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	s.wanted = time.Now()
	return s.Left, !s.At.IsZero()
}

func (l *Leases) run(ctx context.Context) {
	for ctx.Err() == nil {
		due, some := l.due(time.Now())
		l.read(ctx, due)
		idle := leasePause
		if !some {
			idle = time.Hour
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
			sleep(ctx, 20*time.Millisecond) // a page asks for many at once
		case <-time.After(idle):
		}
	}
}

// due returns the leases to read now, and whether any is wanted. It forgets the others.
func (l *Leases) due(now time.Time) (due []clientv3.LeaseID, some bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, s := range l.known {
		switch {
		case now.Sub(s.wanted) > leaseWanted:
			delete(l.known, id)
		case now.Sub(s.asked) >= leaseEvery && len(due) < mostLeases:
			s.asked = now
			due = append(due, id)
		}
	}
	return due, len(l.known) > 0
}

func (l *Leases) read(ctx context.Context, due []clientv3.LeaseID) {
	if len(due) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	var (
		all  sync.WaitGroup
		room = make(chan struct{}, leaseAtOnce)
	)
	for _, id := range due {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			sent := time.Now()
			if resp, err := l.lease.TimeToLive(ctx, id); err == nil {
				l.note(id, Left{
					TTL: time.Duration(resp.TTL) * time.Second, Granted: time.Duration(resp.GrantedTTL) * time.Second, At: sent,
				})
			}
		})
	}
	all.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version++
	l.changed.Broadcast()
}

func (l *Leases) note(id clientv3.LeaseID, left Left) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.known[id]; s != nil {
		s.Left = left
	}
}
