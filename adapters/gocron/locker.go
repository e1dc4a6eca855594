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

// DefaultSplay is the splay of a Locker without [WithSplay].
const DefaultSplay = 200 * time.Millisecond

// Locker is a [gocron.Locker]. The first process that locks a run of a job executes it, and the other
// processes skip this run.
type Locker struct {
	session *etcdlock.Session
	prefix  string
	splay   time.Duration

	mu   sync.Mutex
	held map[string]*etcdlock.Lock // by job name; guarded by mu
}

var _ gocron.Locker = (*Locker)(nil)

// LockerOption is an option of [NewLocker].
type LockerOption func(*Locker)

// WithPrefix sets the prefix of the jobs' names in etcd. The default is "gocron". Schedulers with the
// same prefix share jobs.
func WithPrefix(prefix string) LockerOption { return func(l *Locker) { l.prefix = prefix } }

// WithSplay sets for how long a run keeps the lock at least, beginning with the acquisition. The splay
// must be longer than the difference of the schedulers' clocks. Otherwise a scheduler with a late
// clock runs a short job again. The splay must be shorter than the time between two runs. Otherwise
// every second run is skipped. The default is [DefaultSplay].
func WithSplay(splay time.Duration) LockerOption { return func(l *Locker) { l.splay = splay } }

// NewLocker creates a Locker for [gocron.WithDistributedLocker] or
// [gocron.WithDistributedJobLocker]. One session serves all jobs of a process. Close it after the
// scheduler.
func NewLocker(session *etcdlock.Session, opts ...LockerOption) *Locker {
	l := &Locker{session: session, prefix: "gocron", splay: DefaultSplay, held: make(map[string]*etcdlock.Lock)}
	for _, opt := range opts {
		opt(l)
	}
	return l
}

// Lock makes one request, and does not wait for another holder. If another process has locked this
// run, the error matches [etcdlock.ErrLocked]. After any error gocron skips the run, so no process
// runs the job while etcd does not answer.
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

// name is the name of the lock of a job. Slashes of the job's name are escaped, so that no name is
// inside another.
func (l *Locker) name(key string) string { return l.prefix + "/" + url.PathEscape(key) }

// Held returns the lock of the job's run in this process, or nil if there is no run. The job uses the
// context of the lock, which ends when the lock is lost, and sends its token with the writes.
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

// unlockTimeout bounds an Unlock for which no caller waits. After it, the key is deleted in the
// background.
const unlockTimeout = 5 * time.Second

// Unlock ends the run. The lock is released after the splay, by a timer if the splay has not passed.
// An error that matches [etcdlock.ErrLost] means that the run was not exclusive until its end.
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
		_ = r.lock.Unlock(ctx) // after an error the lock was lost, or its key is deleted in the background
	})
	if err := r.lock.Err(); errors.Is(err, etcdlock.ErrLost) {
		return err
	}
	return nil
}
