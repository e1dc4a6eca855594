package watch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

const bound = time.Second

// rig is a watcher on an etcd in memory. When the test returns its life ends, and all its
// goroutines have to: the bubble fails otherwise.
type rig struct {
	*testing.T
	*simetcd.Server
	*Watcher
	*line
	ctx    context.Context
	client *simetcd.Client
	end    context.CancelFunc
	tasks  sync.WaitGroup
}

func simulate(t *testing.T, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, Server: simetcd.New(simetcd.Config{Seed: 1, MinLatency: time.Millisecond, MaxLatency: time.Millisecond})}
		defer r.Close()
		r.client = r.Client("a")
		r.line = &line{WatchClient: r.client.Remote()}
		var life context.Context
		life, r.end = context.WithCancel(context.Background())
		r.Watcher = New(life, r.client.Watcher, r.line, func(f func()) bool {
			if life.Err() != nil {
				return false
			}
			r.tasks.Go(f)
			return true
		})
		var cancel context.CancelFunc
		r.ctx, cancel = context.WithCancel(context.Background())
		defer cancel()
		test(r)
		r.end()
		r.tasks.Wait()
	})
}

// open opens a watch, which must be had.
func (r *rig) open(key string, opts ...clientv3.OpOption) *Watch {
	r.Helper()
	w := r.Open(r.ctx, bound, key, opts...)
	require.NotNil(r, w)
	return w
}

// put writes a key, and returns its revision.
func (r *rig) put(key string) int64 { return r.PutKey(key, "", clientv3.NoLease) }

// settle lets everything arrive.
func settle() {
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
}

// revisions are those of the events that a watch has for its reader, and whether it has ended.
func revisions(w *Watch) (revs []int64, ended bool) {
	settle()
	for {
		select {
		case resp, ok := <-w.Events():
			if !ok {
				return revs, true
			}
			for _, ev := range resp.Events {
				revs = append(revs, ev.Kv.ModRevision)
			}
		default:
			return revs, false
		}
	}
}

func (r *rig) tells(w *Watch, revs ...int64) {
	r.Helper()
	got, ended := revisions(w)
	require.Equal(r, revs, got)
	require.False(r, ended)
}

func (r *rig) over(w *Watch) {
	r.Helper()
	got, ended := revisions(w)
	require.Empty(r, got)
	require.True(r, ended)
}

// line sees what goes to etcd, and can change it.
type line struct {
	pb.WatchClient

	mu      sync.Mutex
	streams []*tapped
	blind   bool // the server picks the IDs itself
	stuck   bool // what is sent from now on is not taken: the streams' buffers are full
	broken  bool // streams break when they are to answer
	twist   func(*pb.WatchResponse)

	underWay, most int // creations, now and at most
}

type tapped struct {
	pb.Watch_WatchClient
	line *line
	ctx  context.Context
}

func (l *line) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	st, err := l.WatchClient.Watch(ctx, opts...)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &tapped{st, l, ctx}
	l.streams = append(l.streams, t)
	return t, nil
}

func (t *tapped) Send(req *pb.WatchRequest) error {
	t.line.mu.Lock()
	stuck := t.line.stuck
	if req.GetCreateRequest() != nil {
		t.line.underWay++
		t.line.most = max(t.line.most, t.line.underWay)
	}
	if t.line.blind && req.GetCreateRequest() != nil {
		req = proto.Clone(req).(*pb.WatchRequest)
		req.GetCreateRequest().WatchId = clientv3.AutoWatchID
	}
	t.line.mu.Unlock()
	if stuck {
		<-t.ctx.Done()
		return t.ctx.Err()
	}
	return t.Watch_WatchClient.Send(req)
}

func (t *tapped) Recv() (*pb.WatchResponse, error) {
	resp, err := t.Watch_WatchClient.Recv()
	t.line.mu.Lock()
	defer t.line.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if t.line.broken {
		return nil, context.DeadlineExceeded
	}
	if resp.Created {
		t.line.underWay--
	}
	if t.line.twist != nil {
		resp = proto.Clone(resp).(*pb.WatchResponse)
		t.line.twist(resp)
	}
	return resp, nil
}

func (l *line) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// opened is how many streams were opened, and open how many of them have not ended.
func (l *line) opened() (opened, open int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.streams {
		if t.ctx.Err() == nil {
			open++
		}
	}
	return len(l.streams), open
}

func (r *rig) streams(opened, open int) {
	r.Helper()
	all, left := r.opened()
	require.Equal(r, []int{opened, open}, []int{all, left})
}

func (l *line) metadata() metadata.MD {
	l.mu.Lock()
	defer l.mu.Unlock()
	md, _ := metadata.FromOutgoingContext(l.streams[0].ctx)
	return md
}
