package sessions

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
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
		locks[i], err = etcdlock.NewMutex(s, fmt.Sprintf("held/%d", i)).Lock(f.Ctx())
		require.NoError(f.t, err)
	}
	return locks
}

// watches waits until a client has asked for n watches at least.
func watches(t *testing.T, c *cluster.Counter, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return c.Watches() >= n }, cluster.Long, 10*time.Millisecond)
}

// endOf is why a hold ends, of which only its watch can tell within the time of a test.
func endOf(t *testing.T, l *etcdlock.Lock) error {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(cluster.Long):
		require.FailNow(t, "the hold has not ended")
	}
	return l.Err()
}

func TestTheWatchesOfASessionShareAStreamAndHaveNoGoroutinesOfTheirOwn(t *testing.T) {
	f := newFixture(t)
	var c cluster.Counter
	s := f.Session(f.Client(c.Options()...), cluster.LongTTL)
	const n = 20
	locks := f.holdMany(s, n)
	// One that waits has its view.
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(f.Client(), cluster.LongTTL), "held/0"))
	f.WaitForKeys("held/0", 2)
	watches(t, &c, n)
	require.Eventually(t, func() bool { return running(ownStream) == 2 }, cluster.Long, 10*time.Millisecond, "one for each session")
	require.Zero(t, running(clientStream)+running(clientWatch))

	cluster.Release(t, locks[0])
	cluster.Release(t, cluster.Granted(t, waiting).Handle)
	for _, l := range locks[1:] {
		f.Delete(l.Key())
		cluster.AssertLost(t, endOf(t, l), etcdlock.ErrEvicted)
	}
}

func TestANamespacedWatcherIsAskedForTheWatches(t *testing.T) {
	f := newFixture(t)
	c := f.Client()
	c.KV, c.Watcher, c.Lease = namespace.NewKV(c.KV, "ns/"), namespace.NewWatcher(c.Watcher, "ns/"), namespace.NewLease(c.Lease, "ns/")
	locks := f.holdMany(f.Session(c, cluster.LongTTL), 3)
	require.Eventually(t, func() bool { return running(clientWatch) == 3 }, cluster.Long, 10*time.Millisecond)
	require.Zero(t, running(ownStream))
	f.Delete("ns/" + locks[0].Key())
	cluster.AssertLost(t, endOf(t, locks[0]), etcdlock.ErrEvicted)
	cluster.Release(t, locks[1])
	cluster.Release(t, locks[2])
}

func TestHoldsAreWatchedAgainAfterTheirStreamBroke(t *testing.T) {
	f := newFixture(t)
	var count cluster.Counter
	c, proxy := f.Proxied(count.Options()...)
	const n = 200
	locks := f.holdMany(f.Session(c, cluster.LongTTL), n)
	watches(t, &count, n)
	proxy.Drop()
	watches(t, &count, 2*n)
	require.Eventually(t, func() bool { return running(ownStream) == 1 }, cluster.Long, 10*time.Millisecond)
	for _, l := range locks {
		f.Delete(l.Key())
	}
	for _, l := range locks {
		cluster.AssertLost(t, endOf(t, l), etcdlock.ErrEvicted)
	}
}

// trap E1: a stream has its token for good, and the members forget it.
func TestAHoldIsWatchedThoughTheTokenOfTheStreamRanOut(t *testing.T) {
	f := newAuthFixture(t)
	var c cluster.Counter
	s := f.Session(f.clientAs("app", c.Options()...), 6*time.Second)
	first, err := etcdlock.NewMutex(s, "app/first").Lock(f.Ctx())
	require.NoError(t, err)
	time.Sleep(time.Second + tokenExpired) // it is watched, on a stream with the first token
	second, err := etcdlock.NewMutex(s, "app/second").Lock(f.Ctx())
	require.NoError(t, err)
	time.Sleep(time.Second)
	require.Eventually(t, func() bool {
		return !slices.Contains(c.During(func() { time.Sleep(2 * time.Second) }), cluster.Txn)
	}, cluster.Long, time.Millisecond, "without a watch it would have to look again and again")
	for _, l := range []*etcdlock.Lock{first, second} {
		f.Delete(l.Key())
		cluster.AssertLost(t, endOf(t, l), etcdlock.ErrEvicted)
	}
}
