package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// RWMutex is a lock that one writer has, or any number of readers at the same time, among
// all processes that use its name. Like [Mutex] it is only a name and a session. A Mutex of
// the same name is a further writer.
//
// It is fair between sessions: whose key is younger than that of a writer who waits does not
// get in before him, so that readers who come without end do not keep writers out; and
// readers in front of a writer go in together. Within a session readers join those who are in
// already, for a time slice; see [NewRWMutex].
type RWMutex struct {
	session *Session
	name    string
	cfg     mutexConfig
}

// WriteLock is one acquisition of a [RWMutex] for writing.
type WriteLock struct{ *hold }

// ReadLock is one acquisition of a [RWMutex] for reading.
//
// Its fencing token is larger than that of every writer before it and smaller than that
// of every one after; readers who hold at the same time may share it. Its key, and so its
// Guard, are those of all readers of the session that came in one after the other without
// a writer in between: they stand until the last of these has released.
type ReadLock struct{ *hold }

// NewRWMutex names a lock for readers and writers; for names and options see [NewMutex].
// [WithTimeSlice] is also for how long further readers of a session come in beside those that
// it has without asking etcd: from when these were let in, or when etcd last said that no
// writer waits. So a writer of another session who waits is passed by no reader who comes
// later than a slice, and the one question that may be under way, after that. 0 asks each
// time. [WithRetention] is for writers only.
func NewRWMutex(s *Session, name string, opts ...MutexOption) *RWMutex {
	return &RWMutex{session: s, name: name, cfg: newMutexConfig(s, opts)}
}

// Name is the name that the lock was made with.
func (m *RWMutex) Name() string { return m.name }

// Lock waits in line until nobody older holds or waits, be it to read or to write, and
// returns the hold. For what it blocks on, and for its errors, see [Mutex.Lock]. Under the
// context of a read lock of the same name it is [ErrDeadlock], with [WithReentry] too; see
// [ReadLock.Upgrade].
func (m *RWMutex) Lock(ctx context.Context) (*WriteLock, error) {
	return writeLock(m.session.acquire(ctx, m.name, m.cfg.exclusive(ctx, false)))("lock", m.name)
}

// TryLock is Lock without the wait in line; see [Mutex.TryLock].
func (m *RWMutex) TryLock(ctx context.Context) (*WriteLock, error) {
	return writeLock(m.session.acquire(ctx, m.name, m.cfg.exclusive(ctx, true)))("try to lock", m.name)
}

// RLock waits in line until no older writer holds or waits, and returns the hold. Readers of
// one session share one key in etcd for as long as no writer waits behind it; whoever joins
// them makes no request, or one that only reads. For what it blocks on, and for its
// errors, see [Mutex.Lock]. Under the context of a write lock of the same name, or of a read
// lock, it is [ErrDeadlock] without [WithReentry]: a writer that lines up between two reads
// of one caller would wait for the first one, and the second one for this writer.
func (m *RWMutex) RLock(ctx context.Context) (*ReadLock, error) {
	return readLock(m.session.acquire(ctx, m.name, m.cfg.shared(ctx, false)))("lock for reading", m.name)
}

// TryRLock is RLock without the wait in line: [ErrLocked] at once when a writer holds or
// waits, in this session or in another. It writes only if it gets the lock. Beside readers
// of other sessions it makes two requests, and more while others come in between; where they
// do so eight times it lines up, and leaves again if it has to wait.
func (m *RWMutex) TryRLock(ctx context.Context) (*ReadLock, error) {
	return readLock(m.session.acquire(ctx, m.name, m.cfg.shared(ctx, true)))("try to lock for reading", m.name)
}

// Do locks for writing, calls fn, and unlocks when fn has returned or panicked; see
// [Mutex.Do].
func (m *RWMutex) Do(ctx context.Context, fn func(ctx context.Context, lock *WriteLock) error) error {
	lock, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	return lock.do(ctx, lock.Unlock, func(ctx context.Context) error { return fn(ctx, lock) })
}

// RDo locks for reading, calls fn, and unlocks when fn has returned or panicked; see
// [Mutex.Do].
func (m *RWMutex) RDo(ctx context.Context, fn func(ctx context.Context, lock *ReadLock) error) error {
	lock, err := m.RLock(ctx)
	if err != nil {
		return err
	}
	return lock.do(ctx, lock.Unlock, func(ctx context.Context) error { return fn(ctx, lock) })
}

// Queue lists who holds and who waits, in order; see [Mutex.Queue]. Several readers at its
// beginning hold together.
func (m *RWMutex) Queue(ctx context.Context) ([]QueueEntry, error) {
	return m.session.list(ctx, m.name)
}

// Unlock releases the lock; see [Lock.Unlock].
func (l *WriteLock) Unlock(ctx context.Context) error {
	return opError("unlock", l.Name(), l.release(ctx))
}

// Unlock releases the read lock; see [Lock.Unlock]. It makes a request only if no other
// reader of the session shares the key.
func (l *ReadLock) Unlock(ctx context.Context) error {
	return opError("unlock for reading", l.Name(), l.release(ctx))
}

// exclusive is the claim of who wants to hold alone.
func (c *mutexConfig) exclusive(ctx context.Context, try bool) claim {
	return c.claim(ctx, try, "lock ", &wantsAll, nil)
}

// shared is the claim of a reader.
func (c *mutexConfig) shared(ctx context.Context, try bool) claim {
	return c.claim(ctx, try, "read ", &wantsToShare, queue.Shared())
}

func writeLock(h *hold, err error) func(op, name string) (*WriteLock, error) {
	return func(op, name string) (*WriteLock, error) {
		if err != nil {
			return nil, opError(op, name, err)
		}
		return &WriteLock{h}, nil
	}
}

func readLock(h *hold, err error) func(op, name string) (*ReadLock, error) {
	return func(op, name string) (*ReadLock, error) {
		if err != nil {
			return nil, opError(op, name, err)
		}
		return &ReadLock{h}, nil
	}
}

// What the values of locks say; never changed.
var (
	wantsAll     wire.Holder
	wantsToShare = wire.Holder{Mode: wire.Shared}
)
