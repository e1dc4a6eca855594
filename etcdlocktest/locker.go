package etcdlocktest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdlock/etcdlock"
)

// Locker is an adapter of etcdlock to the lock interface of another library, as [TestLocker] needs it.
// At least one of the functions is set. unlock is called once.
type Locker struct {
	// Lock waits until it has locked key, or fails when ctx ends. It is nil if the adapter does not
	// wait.
	Lock func(ctx context.Context, key string) (unlock func(context.Context) error, err error)
	// TryLock locks key, or fails at once if the key is taken. It is nil if the adapter always waits.
	TryLock func(ctx context.Context, key string) (unlock func(context.Context) error, err error)
}

// TestLocker tests an adapter in virtual time: that it excludes, waits, gives up and cleans up as
// etcdlock does, for keys of any form. newLocker makes the adapter of one process.
func TestLocker(t *testing.T, newLocker func(t *testing.T, session *etcdlock.Session) Locker) {
	for _, c := range conformance {
		t.Run(c.what, func(t *testing.T) {
			Run(t, func(t *testing.T, etcd *Etcd) {
				s := &lockerTest{T: t, etcd: etcd, newLocker: newLocker}
				c.test(s)
			})
		})
	}
}

// lockerTest is one test of an adapter.
type lockerTest struct {
	*testing.T
	etcd      *Etcd
	newLocker func(t *testing.T, session *etcdlock.Session) Locker
}

func (s *lockerTest) locker(process string) Locker {
	return s.newLocker(s.T, s.etcd.Process(process).Session())
}

// conformance are the tests of an adapter.
var conformance = []struct {
	what string
	test func(s *lockerTest)
}{
	{"one at a time, of processes and of goroutines", (*lockerTest).excludes},
	{"a key that is taken is refused or waited for", (*lockerTest).taken},
	{"a wait ends with its context and leaves nothing", (*lockerTest).wait},
	{"the key of a process that was killed is free after the TTL", (*lockerTest).killed},
	{"the release of a lost lock does not touch the next holder", (*lockerTest).lost},
	{"a release under an ended context releases", (*lockerTest).endedContext},
	{"keys of any form are locks of their own", (*lockerTest).keys},
	{"a closed session is an error", (*lockerTest).closed},
	{"an etcd that is away bounds no call but by its context", (*lockerTest).away},
}

// take locks by what the adapter has. It tries again until ctx ends.
func (l Locker) take(ctx context.Context, key string) (unlock func(context.Context) error, err error) {
	if l.Lock != nil {
		return l.Lock(ctx, key)
	}
	for {
		if unlock, err = l.TryLock(ctx, key); err == nil || ctx.Err() != nil || errors.Is(err, etcdlock.ErrSessionClosed) {
			return unlock, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// must takes a key within a minute.
func (s *lockerTest) must(l Locker, key string) (unlock func(context.Context) error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	unlock, err := l.take(ctx, key)
	if err != nil {
		s.Fatalf("lock %q: %v", key, err)
	}
	return unlock
}

func (s *lockerTest) release(unlock func(context.Context) error) {
	s.Helper()
	if err := unlock(s.Context()); err != nil {
		s.Errorf("unlock: %v", err)
	}
}

// refused fails the test if a key can be taken within a second.
func (s *lockerTest) refused(l Locker, key string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	defer cancel()
	if unlock, err := l.take(ctx, key); err == nil {
		s.Errorf("%q is locked a second time", key)
		s.release(unlock)
	}
}

func (s *lockerTest) excludes() {
	store := s.etcd.Guarded("key")
	var workers sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		l := s.locker(name)
		for range 3 {
			workers.Go(func() {
				for range 5 {
					ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
					unlock, err := l.take(ctx, "key")
					if err != nil {
						s.Errorf("lock: %v", err)
					} else {
						_ = store.Do(0, func() error { return nil })
						s.release(unlock)
					}
					cancel()
				}
			})
		}
	}
	workers.Wait()
}

func (s *lockerTest) taken() {
	a, b := s.locker("a"), s.locker("b")
	unlock := s.must(a, "key")
	for what, l := range map[string]Locker{"another process": b, "the same process": a} {
		if l.TryLock == nil {
			continue
		}
		start := time.Now()
		if unlock, err := l.TryLock(s.Context(), "key"); err == nil {
			s.Errorf("%s locks a key that is taken", what)
			s.release(unlock)
		}
		if waited := time.Since(start); waited > time.Second {
			s.Errorf("%s is refused after %v", what, waited)
		}
	}
	got := make(chan func(context.Context) error)
	go func() { got <- s.must(b, "key") }()
	time.Sleep(time.Second)
	select {
	case second := <-got:
		s.Error("two have the key")
		s.release(second)
		s.release(unlock)
	default:
		s.release(unlock)
		s.release(<-got)
	}
}

func (s *lockerTest) wait() {
	a, b := s.locker("a"), s.locker("b")
	if b.Lock == nil {
		return
	}
	unlock := s.must(a, "key")
	for range 3 {
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		start := time.Now()
		_, err := b.Lock(ctx, "key")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
			s.Errorf("a wait of a second: %v after %v", err, time.Since(start))
		}
		cancel()
	}
	s.release(unlock)
	s.release(s.must(b, "key"))
	s.etcd.NothingLeft()
}

func (s *lockerTest) killed() {
	_ = s.must(s.locker("a"), "key")
	b := s.locker("b")
	s.etcd.Process("a").Kill()
	start := time.Now()
	s.release(s.must(b, "key"))
	if took := time.Since(start); took > etcdlock.DefaultTTL+2*time.Second {
		s.Errorf("the key was free after %v", took)
	}
}

func (s *lockerTest) lost() {
	a, b, c := s.locker("a"), s.locker("b"), s.locker("c")
	late := s.must(a, "key")
	s.etcd.fleet.each(func(p *Process) {
		if p.name == "a" {
			p.Sleep(time.Minute)
		}
	})
	unlock := s.must(b, "key")
	_ = late(s.Context()) // whether it is an error is the adapter's to say
	time.Sleep(time.Second)
	s.refused(c, "key")
	s.refused(a, "key")
	s.release(unlock)
	s.release(s.must(a, "key"))
}

func (s *lockerTest) endedContext() {
	a, b := s.locker("a"), s.locker("b")
	unlock := s.must(a, "key")
	ended, cancel := context.WithCancel(s.Context())
	cancel()
	_ = unlock(ended)
	start := time.Now()
	s.release(s.must(b, "key"))
	if took := time.Since(start); took > 2*time.Second {
		s.Errorf("the key was free after %v", took)
	}
}

func (s *lockerTest) keys() {
	a, b := s.locker("a"), s.locker("b")
	keys := []string{
		"a", "a/b", "a/b/c", "/a", "a/", "a//b", "..", "with space", "https://example.com/x?y=z&w", "ключ", "a%2Fb", "a\\b", "A",
		strings.Repeat("long/", 50),
	}
	var unlocks []func(context.Context) error
	for _, key := range keys {
		unlocks = append(unlocks, s.must(a, key))
	}
	for i, key := range keys {
		s.refused(b, key)
		s.release(unlocks[i])
		s.release(s.must(b, key))
	}
}

func (s *lockerTest) closed() {
	session := s.etcd.Process("a").Session()
	l := s.newLocker(s.T, session)
	unlock := s.must(l, "key")
	if err := session.Close(s.Context()); err != nil {
		s.Fatal(err)
	}
	_ = unlock(s.Context())
	if _, err := l.take(s.Context(), "key"); !errors.Is(err, etcdlock.ErrSessionClosed) {
		s.Errorf("with a closed session: %v, which does not match ErrSessionClosed", err)
	}
}

func (s *lockerTest) away() {
	a := s.locker("a")
	s.etcd.Stop()
	start := time.Now()
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Second)
	defer cancel()
	if unlock, err := a.take(ctx, "key"); err == nil {
		s.Error("locked without etcd")
		s.release(unlock)
	}
	if took := time.Since(start); took > 4*time.Second {
		s.Errorf("failed after %v, with a limit of 2s", took)
	}
	s.etcd.Start()
	s.release(s.must(s.locker("b"), "key"))
}
