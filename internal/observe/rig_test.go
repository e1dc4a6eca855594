package observe

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a simulated etcd in virtual time, and followers of one client. Keys are written as an
// administrator writes them, without sessions.
type rig struct {
	*testing.T
	*simetcd.Server
	client    *simetcd.Client
	followers *Followers
}

// defaultTTL is the TTL of a lease of which etcd does not tell it.
const defaultTTL = 10 * time.Second

// simulate runs a test with followers, and closes them afterwards.
func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(simetcd.Config{Seed: 1})
		defer srv.Close()
		client := srv.Client("observer")
		life, end := context.WithCancel(context.Background())
		defer end()
		kv, tracker := timeline.Of(client.KV)
		writer := etcdkv.NewWriter(etcdkv.WriterConfig{Life: life, KV: kv, Slots: etcdkv.Slots, Spawn: func(f func()) bool { go f(); return true }})
		queues := queue.NewQueues(queue.Config{Life: life, KV: kv, Writer: writer, Watcher: client.Watcher, Log: zap.NewNop()})
		followers := New(Config{
			Queue:      queues.Queue,
			Outage:     tracker.Outage,
			Leases:     client.Lease,
			DefaultTTL: func() time.Duration { return defaultTTL },
		})
		defer followers.Close(context.Canceled)
		test(&rig{T: t, Server: srv, client: client, followers: followers})
	})
}

// pass lets virtual time pass.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// put writes a key without a lease and returns its revision.
func (r *rig) put(key, value string) int64 { return r.PutKey(key, value, clientv3.NoLease) }

// observing is a call of Observe in a goroutine of its own.
type observing struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // read after done

	mu    sync.Mutex
	heads []queue.Head
}

// observe begins to observe an election. The observer takes pace over each report.
func (r *rig) observe(name string, pace time.Duration) *observing {
	ctx, cancel := context.WithCancel(r.Context())
	o := &observing{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.err = r.followers.Observe(ctx, name, func(head queue.Head) bool {
			o.mu.Lock()
			o.heads = append(o.heads, head)
			o.mu.Unlock()
			time.Sleep(pace)
			return true
		})
	}()
	r.pass(20 * time.Millisecond)
	return o
}

// end ends an observer, which returns no error.
func (o *observing) end(r *rig) {
	o.cancel()
	<-o.done
	require.NoError(r, o.err)
}

// forget drops the reported heads.
func (o *observing) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heads = nil
}

// vacant stands for a vacancy in what an observer saw.
const vacant = "(vacant)"

// saw returns the reported values, in order.
func (o *observing) saw() (values []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, head := range o.heads {
		if head.First == nil {
			values = append(values, vacant)
		} else {
			values = append(values, string(head.First.Value))
		}
	}
	return values
}
