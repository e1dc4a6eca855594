package etcdlock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// MultiMutex locks several names at once, all or none, as a [Mutex] of each does. Like Mutex it has
// no state of its own.
//
// It enters all queues in one transaction of etcd, at one revision. Of two MultiMutexes with
// some names in common, one is therefore behind the other under all of these names, in whatever
// order the names are written. The two cannot wait for each other. A caller that holds a lock and
// locks others with a MultiMutex can still be in a deadlock; see [WithDeadlockDetection].
//
// It takes a place of its own under each name, also beside other goroutines of the session. Its
// turn therefore follows etcd's order, also among these goroutines.
type MultiMutex struct {
	session *Session
	names   []string
	asks    *local.Request
}

// LockSet is one acquisition of several names at once, by a [MultiMutex]. It is safe for concurrent
// use. All of it ends at the same time: when another client deletes one of its keys, all names are
// lost.
type LockSet struct {
	hold  hold
	names []string
}

// NewMultiMutex names a lock of several names. For each of them see [NewMutex]. It makes no request
// and returns no error. The first call reports names that cannot be used.
func NewMultiMutex(s *Session, names []string, opts ...LockOption) *MultiMutex {
	cfg := newMutexConfig(s, opts)
	names = slices.Clone(names)
	return &MultiMutex{session: s, names: names, asks: cfg.request("lock ", &wire.Holder{All: together(names)}, nil)}
}

// Names returns the names that the MultiMutex was made with.
func (m *MultiMutex) Names() []string { return slices.Clone(m.names) }

// Lock waits until no older entry is left under any of the names, and returns the hold. It blocks
// as [Mutex.Lock] does. After [Session.Orphan] a Lock of the same names takes over what another one
// held.
//
// Errors:
//   - those of [Mutex.Lock]
//   - [ErrInvalidName] for no names or one that is given twice
//   - [ErrNestedName] for names that lie inside each other
//   - [ErrTooManyNames] for more than 64 names, or more than this etcd takes in one request (two
//     operations a name, of its --max-txn-ops; about five times the bytes of the names, of its
//     --max-request-bytes)
//   - [ErrDeadlock] if ctx carries a hold of one of the names, unless the MultiMutex has
//     [WithReentry] and the hold is one of all its names
func (m *MultiMutex) Lock(ctx context.Context) (*LockSet, error) {
	return m.lock(ctx, false, "lock")
}

// TryLock is Lock without the wait in the queue. It returns [ErrLocked] at once when an entry holds
// or waits under any of the names. It makes one request, which writes only if all names are free. A
// hold of one of them that ctx carries is in the way too, and the error then also matches
// [ErrDeadlock].
func (m *MultiMutex) TryLock(ctx context.Context) (*LockSet, error) {
	return m.lock(ctx, true, "try to lock")
}

// Do locks the names, calls fn, and unlocks when fn has returned or panicked; see
// [Mutex.Do].
func (m *MultiMutex) Do(ctx context.Context, fn func(ctx context.Context, locks *LockSet) error) error {
	set, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	return set.hold.do(ctx, set.Unlock, func(ctx context.Context) error { return fn(ctx, set) })
}

// Queue lists the holders and waiters of each name, in order; see [Mutex.Queue]. The names are in
// the order of Names, and are read one after the other.
func (m *MultiMutex) Queue(ctx context.Context) ([]QueueEntry, error) {
	if err := checkTogether(m.session, m.names); err != nil {
		return nil, fmt.Errorf("etcdlock: list the queues of %s: %w", wire.QuoteAll(m.names), err)
	}
	var all []QueueEntry
	for _, name := range m.names {
		entries, err := m.session.list(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

func (m *MultiMutex) lock(ctx context.Context, try bool, op string) (*LockSet, error) {
	if m.session == nil {
		return nil, fmt.Errorf("etcdlock: %s all of %s: %w", op, wire.QuoteAll(m.names), errNotASession)
	}
	traced, ctx := m.session.cfg.tracer.start(ctx, AcquireStartInfo{Kind: KindSet, Name: firstName(m.names), Names: m.names, Try: try})
	c := callOf(ctx, m.asks, try)
	traced.ask(&c)
	h, err := m.acquire(ctx, c)
	m.session.refused.count(err)
	h.traced = traced.end(h.of, err)
	if err != nil {
		return nil, fmt.Errorf("etcdlock: %s all of %s: %w", op, wire.QuoteAll(m.names), err)
	}
	if granted := m.session.cfg.Hooks.Granted; granted != nil {
		granted(h, m.Names())
	}
	return &LockSet{hold: h, names: m.names}, nil
}

func (m *MultiMutex) acquire(ctx context.Context, c local.Call) (hold, error) {
	s, names := m.session, m.names
	if ctx.Err() != nil {
		return hold{}, lockerr.OfContext(ctx)
	}
	if err := checkTogether(s, names); err != nil {
		return hold{}, err
	}
	h, err := s.manager.AcquireAll(ctx, names, c)
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps):
		err = fmt.Errorf("%w: %d, but this etcd allows fewer: raise its --max-txn-ops: %w", ErrTooManyNames, len(names), err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		err = fmt.Errorf("%w: %d with %d bytes, but this etcd allows smaller requests only: raise its --max-request-bytes: %w",
			ErrTooManyNames, len(names), size(names), err)
	}
	if err != nil {
		return hold{}, refusal(err)
	}
	return hold{of: h}, nil
}

// firstName is the first name; "" for none.
func firstName(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// together is what each entry of a set says of the others: all names, by which a reader tells
// which entries are one set. Where that is much it is a digest of them instead, as the size of
// the request would otherwise grow with the square of the names.
func together(names []string) []string {
	if len(names)*size(names) <= mostNamed {
		return names
	}
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d %s", len(name), name)
	}
	return []string{fmt.Sprintf("%d names, %x", len(names), h.Sum(nil)[:8])}
}

// mostNamed is how many bytes all names may take in all entries of a set together. Up to there the
// value is that of earlier versions.
const mostNamed = 64 << 10

func size(names []string) (bytes int) {
	for _, name := range names {
		bytes += len(name)
	}
	return bytes
}

// checkTogether tells why names cannot be locked together.
func checkTogether(s *Session, names []string) error {
	switch {
	case len(names) == 0:
		return fmt.Errorf("%w: the list of names is empty", ErrInvalidName)
	case len(names) > queue.MostTogether:
		return fmt.Errorf("%w: %d, but at most %d are allowed", ErrTooManyNames, len(names), queue.MostTogether)
	}
	given := make(map[string]bool, len(names))
	for _, name := range names {
		if err := s.usable(name); err != nil {
			return err
		}
		if given[name] {
			return fmt.Errorf("%w: %s is given twice", ErrInvalidName, wire.Quote(name))
		}
		given[name] = true
	}
	for name := range given {
		for outer := range wire.Ancestors(name) {
			if given[outer] {
				return fmt.Errorf("%w: %s is inside %s", ErrNestedName, wire.Quote(name), wire.Quote(outer))
			}
		}
	}
	return nil
}

// Names returns the names that are held, as they were given to [NewMultiMutex].
func (l *LockSet) Names() []string { return slices.Clone(l.names) }

// Context returns a context that is cancelled when the holds end; see [Held.Context].
func (l *LockSet) Context() context.Context { return l.hold.Context() }

// Done returns a channel that is closed when the holds end.
func (l *LockSet) Done() <-chan struct{} { return l.hold.Done() }

// Err returns nil while held; see [Held.Err].
func (l *LockSet) Err() error { return l.hold.Err() }

// Token returns the fencing token, one for all names. It is larger than that of every earlier
// holder of any of them. See [Held.Token].
func (l *LockSet) Token() int64 { return l.hold.Token() }

// Deadline returns the instant until which no other session can hold any of the names; see
// [Held.Deadline].
func (l *LockSet) Deadline() time.Time { return l.hold.Deadline() }

// Guards returns comparisons that all hold in an etcd transaction only while all keys exist; see
// [Lock.Guard].
func (l *LockSet) Guards() []clientv3.Cmp {
	var guards []clientv3.Cmp
	for _, name := range l.names {
		guards = append(guards, l.hold.of.EntryOf(name).Guard())
	}
	return guards
}

// Keys returns the keys in etcd by which the names are held, in the order of Names.
func (l *LockSet) Keys() []string {
	var keys []string
	for _, name := range l.names {
		keys = append(keys, l.hold.of.EntryOf(name).Key)
	}
	return keys
}

// Asked returns a channel with each request to release any of the names. [ReleaseRequest.Name] has
// the name; see [Lock.Asked].
func (l *LockSet) Asked() <-chan ReleaseRequest { return l.hold.Asked() }

func (l *LockSet) held() *local.Hold { return l.hold.held() }

// Unlock releases all names, in one request; see [Lock.Unlock].
func (l *LockSet) Unlock(ctx context.Context) error {
	if err := l.hold.release(ctx); err != nil {
		return fmt.Errorf("etcdlock: unlock all of %s: %w", wire.QuoteAll(l.names), err)
	}
	return nil
}
