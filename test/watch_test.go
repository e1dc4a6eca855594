package test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock"
)

// running is how many goroutines there are with this function on their stacks.
func running(function string) int {
	stacks := make([]byte, 64<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, function) {
			n++
		}
	}
	return n
}

const (
	ownStream    = "internal/watch.(*stream).run("
	clientStream = "client/v3.(*watchGRPCStream).run("
	clientWatch  = "client/v3.(*watchGRPCStream).serveSubstream("
)

// holdMany holds n names for so long that their keys are watched.
func (f *fixture) holdMany(s *etcdlock.Session, n int) []*etcdlock.Lock {
	f.t.Helper()
	locks := make([]*etcdlock.Lock, n)
	for i := range locks {
		var err error
		locks[i], err = etcdlock.NewMutex(s, fmt.Sprintf("held/%d", i)).Lock(f.ctx())
		require.NoError(f.t, err)
	}
	return locks
}

// endOf is why a hold ends, of which only its watch can tell within the time of a test.
func endOf(t *testing.T, l *etcdlock.Lock) error {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(long):
		require.FailNow(t, "the hold has not ended")
	}
	return l.Err()
}

func TestTheWatchesOfASessionShareAStreamAndHaveNoGoroutinesOfTheirOwn(t *testing.T) {
	f := newFixture(t)
	s := f.session(f.client(), 20*time.Second)
	const n = 20
	locks := f.holdMany(s, n)
	// One that waits has its view.
	waiting := lockInBackground(f.ctx(), etcdlock.NewMutex(f.session(f.client(), 20*time.Second), "held/0"))
	f.waitForKeys("held/0", 2)
	time.Sleep(time.Second) // the holds are watched by now
	require.Equal(t, 2, running(ownStream), "one for each session")
	require.Zero(t, running(clientStream)+running(clientWatch))

	release(t, locks[0])
	release(t, granted(t, waiting).handle)
	for _, l := range locks[1:] {
		f.delete(l.Key())
		assertLost(t, endOf(t, l), etcdlock.ErrEvicted)
	}
}

func TestANamespacedWatcherIsAskedForTheWatches(t *testing.T) {
	f := newFixture(t)
	c := f.client()
	c.KV, c.Watcher, c.Lease = namespace.NewKV(c.KV, "ns/"), namespace.NewWatcher(c.Watcher, "ns/"), namespace.NewLease(c.Lease, "ns/")
	locks := f.holdMany(f.session(c, 20*time.Second), 3)
	require.Eventually(t, func() bool { return running(clientWatch) == 3 }, 5*time.Second, 10*time.Millisecond)
	require.Zero(t, running(ownStream))
	f.delete("ns/" + locks[0].Key())
	assertLost(t, endOf(t, locks[0]), etcdlock.ErrEvicted)
	release(t, locks[1])
	release(t, locks[2])
}

func TestHoldsAreWatchedAgainAfterTheirStreamBroke(t *testing.T) {
	f := newFixture(t)
	c, proxy := f.proxied()
	locks := f.holdMany(f.session(c, 20*time.Second), 200)
	time.Sleep(time.Second)
	proxy.Drop()
	time.Sleep(3 * time.Second)
	require.Equal(t, 1, running(ownStream))
	for _, l := range locks {
		f.delete(l.Key())
	}
	for _, l := range locks {
		assertLost(t, endOf(t, l), etcdlock.ErrEvicted)
	}
}

// trap E1: a stream has its token for good, and the members forget it.
func TestAHoldIsWatchedThoughTheTokenOfTheStreamRanOut(t *testing.T) {
	f := newAuthFixture(t)
	var c counter
	s := f.session(f.clientAs("app", c.options()...), 6*time.Second)
	first, err := etcdlock.NewMutex(s, "app/first").Lock(f.ctx())
	require.NoError(t, err)
	time.Sleep(time.Second + tokenExpired) // it is watched, on a stream with the first token
	second, err := etcdlock.NewMutex(s, "app/second").Lock(f.ctx())
	require.NoError(t, err)
	time.Sleep(time.Second)
	require.NotContains(t, c.during(func() { time.Sleep(2 * time.Second) }), oneTxn[0], "without a watch it would have to look again and again")
	for _, l := range []*etcdlock.Lock{first, second} {
		f.delete(l.Key())
		assertLost(t, endOf(t, l), etcdlock.ErrEvicted)
	}
}
