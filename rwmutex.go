package etcdlock

import (
	"context"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockmgr"
)

// RWMutex is a lock that one writer has, or any number of readers at the same time, among all
// processes that use its name. Like [Mutex] it is only a name and a session. A Mutex of the same
// name is a further writer.
//
// It is fair between sessions. A session with a younger key than a waiting writer is not admitted
// before the writer, so a stream of readers does not starve writers. Readers ahead of a writer are
// admitted together. Within a session readers join the readers that hold already, for a time slice;
// see [NewRWMutex].
type RWMutex struct {
	session     *Session
	name        string
	write, read *local.Request
}

// WriteLock is one acquisition of a [RWMutex] for writing.
type WriteLock struct{ hold }

// ReadLock is one acquisition of a [RWMutex] for reading.
//
// Its fencing token is larger than that of every writer before it and smaller than that of every
// writer after it. Readers that hold at the same time may share a token. All readers of the session
// that were admitted one after the other without a writer in between share a key, and therefore a
// Guard. The key exists until the last of these readers has released.
type ReadLock struct{ hold }

// NewRWMutex names a lock for readers and writers. For names and options see [NewMutex].
//
// [WithTimeSlice] also sets for how long further readers of a session join its present ones without
// a request. This time begins when the present readers were admitted, or when etcd last reported
// that no writer waits. A waiting writer of another session is therefore overtaken only by readers
// that come within a slice, and the one request that may be under way, after the writer entered the
// queue. 0 makes a request each time. [WithRetention] is for writers only.
func NewRWMutex(s *Session, name string, opts ...MutexOption) *RWMutex {
	cfg := newMutexConfig(s, opts)
	return &RWMutex{session: s, name: name, write: cfg.exclusive(), read: cfg.shared()}
}

// Name returns the name that the lock was made with.
func (m *RWMutex) Name() string { return m.name }

// Lock waits in the queue until no older entry holds or waits, whether to read or to write, and
// returns the hold. It blocks, and fails, as [Mutex.Lock] does. It fails with [ErrDeadlock] under
// the context of a read lock of the same name, also with [WithReentry]; see [ReadLock.Upgrade].
func (m *RWMutex) Lock(ctx context.Context) (*WriteLock, error) {
	c := callOf(ctx, m.write, false)
	return writeLock(m.session.acquire(ctx, KindWrite, m.name, &c))("lock", m.name)
}

// TryLock is Lock without the wait in the queue; see [Mutex.TryLock].
func (m *RWMutex) TryLock(ctx context.Context) (*WriteLock, error) {
	c := callOf(ctx, m.write, true)
	return writeLock(m.session.acquire(ctx, KindWrite, m.name, &c))("try to lock", m.name)
}

// RLock waits in the queue until no older writer holds or waits, and returns the hold. It blocks,
// and fails, as [Mutex.Lock] does. Readers of one session share one key in etcd for as long as no
// writer waits behind it. A reader that joins them makes no request, or one that only reads.
//
// RLock fails with [ErrDeadlock] under the context of a write lock of the same name, or of a read
// lock, without [WithReentry]. A writer that enters the queue between two reads of one caller would
// wait for the first read, and the second read would wait for this writer.
func (m *RWMutex) RLock(ctx context.Context) (*ReadLock, error) {
	c := callOf(ctx, m.read, false)
	return readLock(m.session.acquire(ctx, KindRead, m.name, &c))("lock for reading", m.name)
}

// TryRLock is RLock without the wait in the queue. It returns [ErrLocked] at once when a writer
// holds or waits, in this session or in another. It writes only if it gets the lock. Beside readers
// of other sessions it makes two requests, and more while other entries come in between. If that
// happens eight times, it enters the queue, and leaves it again if it has to wait.
func (m *RWMutex) TryRLock(ctx context.Context) (*ReadLock, error) {
	c := callOf(ctx, m.read, true)
	return readLock(m.session.acquire(ctx, KindRead, m.name, &c))("try to lock for reading", m.name)
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

// Queue lists the holders and the waiters, in order; see [Mutex.Queue]. Several readers at its
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

// Downgrade makes the write lock a read lock, with no other holder in between. Its key stays, and
// from then on is the key of a reader. When Downgrade returns without an error, the write lock is
// over ([ErrReleased]) and the read lock is held, with the same token.
//
// It blocks until etcd has confirmed that other readers may be admitted, or ctx ends. If ctx ends
// first, the read lock is returned nevertheless, and the other readers are admitted later.
//
// Errors:
//   - those of a lock that was over before
//   - [ErrReentryLimit] while another hold within this one is still held, because that hold would
//     not be exclusive any more
func (l *WriteLock) Downgrade(ctx context.Context) (*ReadLock, error) {
	return readLock(l.convert(ctx, KindRead, (*lockmgr.Hold).Downgrade))("downgrade", l.Name())
}

// Upgrade makes the read lock a write lock, before any waiting writer. It blocks until all other
// present readers have released, and admits no further readers meanwhile. When Upgrade returns
// without an error, the read lock is over ([ErrReleased]), and the write lock has a larger token.
// The read lock is held as before after an error, unless it was lost.
//
// Errors:
//   - the error of ctx
//   - [ErrUpgradeConflict] at once, if another reader is already upgrading, of this session or of
//     another. Each of the two would wait for the other, so the caller has to release for the other
//     to continue.
//   - [ErrDeadlock] if ctx carries another read lock of the same name by a session of this client
//   - [ErrLost], [ErrSessionClosed] and [ErrReleased]
//   - an error with which etcd refuses the request
func (l *ReadLock) Upgrade(ctx context.Context) (*WriteLock, error) {
	return writeLock(l.convert(ctx, KindWrite, (*lockmgr.Hold).Upgrade))("upgrade", l.Name())
}

// convert makes the hold one of the other mode.
func (h hold) convert(ctx context.Context, kind Kind, to func(*lockmgr.Hold, context.Context) (*lockmgr.Hold, error)) (hold, error) {
	if h.of == nil {
		return hold{}, errNoHold
	}
	c, ctx, ended := h.traced.convert(ctx, kind)
	other, err := to(h.of, ctx)
	returned := false
	defer func() {
		if !returned && err == nil { // HoldEnd has panicked, or ended this goroutine
			other.Abandon()
		}
	}()
	ended()
	returned = true
	if err != nil {
		err = refusal(err)
	}
	return hold{of: other, traced: c.end(other, err)}, err
}

func writeLock(h hold, err error) func(op, name string) (*WriteLock, error) {
	return func(op, name string) (*WriteLock, error) {
		if err != nil {
			return nil, opError(op, name, err)
		}
		return &WriteLock{h}, nil
	}
}

func readLock(h hold, err error) func(op, name string) (*ReadLock, error) {
	return func(op, name string) (*ReadLock, error) {
		if err != nil {
			return nil, opError(op, name, err)
		}
		return &ReadLock{h}, nil
	}
}
