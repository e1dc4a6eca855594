package gocronlock

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/etcdlock/etcdlock"
)

// DefaultSplay is the splay of a Locker that is made without [WithSplay].
const DefaultSplay = 200 * time.Millisecond

// Locker is a [gocron.Locker]: of all processes, the first one to come runs the job, and
// the others skip this run.
type Locker struct {
	session *etcdlock.Session
	prefix  string
	splay   time.Duration

	mu   sync.Mutex
	held map[string]*etcdlock.Lock // by job name; guarded by mu
}

var _ gocron.Locker = (*Locker)(nil)

// LockerOption changes what [NewLocker] does by default.
type LockerOption func(*Locker)

// WithPrefix sets what stands in front of the job's name in etcd; "gocron" by default.
// Schedulers share jobs when they use one prefix.
func WithPrefix(prefix string) LockerOption { return func(l *Locker) { l.prefix = prefix } }

// WithSplay sets for how long a run keeps the lock at least, from when it got it. It
// has to be longer than the schedulers' clocks differ, or a job that is done in no time is
// run again by the next one, whose clock is late; and shorter than the time between two
// runs, or every other run is skipped. The default is [DefaultSplay].
func WithSplay(splay time.Duration) LockerOption { return func(l *Locker) { l.splay = splay } }

// NewLocker makes a Locker for [gocron.WithDistributedLocker] or
// [gocron.WithDistributedJobLocker]. One session serves all jobs of a process; close it
// after the scheduler.
func NewLocker(session *etcdlock.Session, opts ...LockerOption) *Locker {
	l := &Locker{session: session, prefix: "gocron", splay: DefaultSplay, held: make(map[string]*etcdlock.Lock)}
	for _, opt := range opts {
		opt(l)
	}
	return l
}

// Lock makes one request, and does not wait for others: an error that matches
// [etcdlock.ErrLocked] says that this run is somebody else's. Any error makes gocron skip
// the run; while etcd is away nobody runs the job.
func (l *Locker) Lock(ctx context.Context, key string) (gocron.Lock, error) {
	lock, err := etcdlock.NewMutex(l.session, l.name(key)).TryLock(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[key] = lock
	return &run{locker: l, key: key, lock: lock, until: time.Now().Add(l.splay)}, nil
}

// name is the lock of a job. A job's name may have slashes; escaped, no name lies inside
// another.
func (l *Locker) name(key string) string { return l.prefix + "/" + url.PathEscape(key) }

// Held is the lock of the run that is under way in this process, for the job itself: its
// context ends when the run is not this process's any more, and its token can be sent
// along with what the job writes. Nil if no run is under way.
func (l *Locker) Held(key string) *etcdlock.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[key]
}

// run is one run of a job.
type run struct {
	locker *Locker
	key    string
	lock   *etcdlock.Lock
	until  time.Time
}

// unlockTimeout bounds an Unlock that nobody waits for. The key goes on being deleted in
// the background after it.
const unlockTimeout = 5 * time.Second

// Unlock ends the run. The lock is released when the splay is over, by a timer if it is
// not yet. [etcdlock.ErrLost]: the run was not exclusive to its end.
func (r *run) Unlock(ctx context.Context) error {
	r.locker.mu.Lock()
	if r.locker.held[r.key] == r.lock {
		delete(r.locker.held, r.key)
	}
	r.locker.mu.Unlock()
	left := time.Until(r.until)
	if left <= 0 {
		return r.lock.Unlock(ctx)
	}
	time.AfterFunc(left, func() {
		ctx, cancel := context.WithTimeout(context.Background(), unlockTimeout)
		defer cancel()
		_ = r.lock.Unlock(ctx) // or it was lost, and is nobody's business any more
	})
	if err := r.lock.Err(); errors.Is(err, etcdlock.ErrLost) {
		return err
	}
	return nil
}
