// Package mirror has the queues under a prefix as etcd has them, by one read and one watch, however
// many viewers there are.
package mirror

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/broadcast"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

const (
	readTimeout = 30 * time.Second
	beatEvery   = 2 * time.Second
	beatTimeout = 2 * time.Second
	lagPatience = 10 * time.Second // for which a watch may be behind the answers of etcd
	againAfter  = time.Second      // between two reads
)

// Config says what is mirrored.
type Config struct {
	Client *clientv3.Client
	Prefix string
	Log    *slog.Logger
}

// Mirror follows etcd until Close. Its mutex is never held across a request.
type Mirror struct {
	cfg    Config
	kv     clientv3.KV       // of the client; shows its answers to data
	data   *timeline.Tracker // notices that etcd continues with other data
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	names   map[string]*name // with a key, or with a history
	spare   int              // number of kept keys that are no entries of a lease
	emptied int              // number of names that became unused since the last search for old ones
	state   State
	version uint64
	changed broadcast.Signal // of the next version
	list    []*View          // the used names in order; nil after a change
}

// State is how far the mirror is.
type State struct {
	Loaded   bool      // true after the first read
	Revision int64     // the last one that the mirror shows
	Answered time.Time // the last answer of etcd
	Silent   time.Time // zero while etcd answers, or else the first failure
	Problem  string    // the error of that failure
	Refused  bool      // true: etcd answers, and refuses the user of the client
}

// View is a name at one moment. It is never changed.
type View struct {
	queues.Queue
	Revision int64 // of the last change
	Requests []queues.Request
	Limit    int            // that SetLimit has set, or 0
	Sizes    map[string]int // of values that are cut, by key
	History  []queues.Change
}

// New starts to follow etcd.
func New(cfg Config) *Mirror {
	m := &Mirror{cfg: cfg, names: make(map[string]*name)}
	m.kv, m.data = timeline.Of(cfg.Client.KV)
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.tasks.Go(func() { m.run(ctx) })
	return m
}

// Close ends the watch and waits until it has ended.
func (m *Mirror) Close() {
	m.cancel()
	m.tasks.Wait()
}

// State returns how far the mirror is.
func (m *Mirror) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Version returns a number that grows with each change, and a channel that is closed at the next one.
func (m *Mirror) Version() (uint64, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version, m.changed.Changed()
}

// Names returns the used names in order.
func (m *Mirror) Names() ([]*View, State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.list == nil {
		m.list = []*View{}
		for _, n := range m.names {
			if n.view.Used() {
				m.list = append(m.list, n.view)
			}
		}
		slices.SortFunc(m.list, func(a, b *View) int { return strings.Compare(a.Name, b.Name) })
	}
	return m.list, m.state
}

// Name returns a name, which may be unused.
func (m *Mirror) Name(of string) (*View, State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.names[of]; n != nil {
		return n.view, m.state
	}
	return &View{Queue: queues.New(of, nil)}, m.state
}

// Entries returns the entries of all used names, in the order of their keys.
func (m *Mirror) Entries() ([]*mvccpb.KeyValue, State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*mvccpb.KeyValue
	for _, n := range m.names {
		if n.view.Used() {
			for _, kv := range n.entries {
				all = append(all, kv)
			}
		}
	}
	slices.SortFunc(all, func(a, b *mvccpb.KeyValue) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return all, m.state
}

// note makes a new version. Callers hold mu.
func (m *Mirror) note() {
	m.version++
	m.changed.Broadcast()
}

// run reads and follows until ctx ends.
func (m *Mirror) run(ctx context.Context) {
	for ctx.Err() == nil {
		rev, replaced, err := m.read(ctx)
		if err != nil {
			m.failed(err)
			sleep(ctx, againAfter)
			continue
		}
		m.follow(ctx, rev+1, replaced)
		sleep(ctx, againAfter/5)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// read replaces all that is known. replaced is closed when etcd continues with other data.
func (m *Mirror) read(ctx context.Context) (rev int64, replaced <-chan struct{}, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if _, err := m.beat(ctx); err != nil { // so that an etcd that hangs is reported after seconds
		return 0, nil, err
	}
	replaced = m.data.Changed()
	loaded, err := queues.Load(ctx, m.cfg.Client, m.cfg.Prefix)
	if err != nil {
		return 0, nil, err
	}
	stray, err := queues.WithoutLease(ctx, m.cfg.Client.KV, loaded.Others)
	if err != nil {
		return 0, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replace(loaded, stray)
	m.state.Loaded, m.state.Revision = true, loaded.Revision
	m.note()
	return loaded.Revision, replaced, nil
}

// beat asks etcd for its revision. By the answer the tracker notices other data.
func (m *Mirror) beat(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	resp, err := m.kv.Get(ctx, m.cfg.Prefix+"\x00", clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	m.answered(resp.Header.Revision)
	return resp.Header.Revision, nil
}

// failed records that etcd does not answer.
func (m *Mirror) failed(err error) {
	if errors.Is(err, context.Canceled) { // the mirror ends
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Problem, m.state.Refused = err.Error(), refused(err)
	if m.state.Silent.IsZero() {
		m.state.Silent = time.Now()
		m.cfg.Log.Warn("etcd does not answer", "error", err)
	}
	m.note()
}

// refused reports whether etcd has refused the user.
func refused(err error) bool {
	var e rpctypes.EtcdError
	return errors.As(rpctypes.Error(err), &e) && (e.Code() == codes.PermissionDenied || e.Code() == codes.Unauthenticated)
}

// answered records an answer.
func (m *Mirror) answered(rev int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Answered = time.Now()
	if !m.state.Silent.IsZero() {
		m.state.Silent, m.state.Problem, m.state.Refused = time.Time{}, "", false
		m.cfg.Log.Info("etcd answers again", "revision", rev)
		m.note()
	}
}

// follow applies each revision, and returns when all has to be read again.
func (m *Mirror) follow(ctx context.Context, from int64, replaced <-chan struct{}) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	var beats sync.WaitGroup
	defer beats.Wait()
	defer cancel()
	beats.Go(func() { defer cancel(); m.beatWhile(ctx) })
	opts := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment()}
	watch := m.cfg.Client.Watch(ctx, m.cfg.Prefix, opts...)
	for {
		select {
		case <-replaced:
			return
		case <-ctx.Done():
			return
		case resp, ok := <-watch:
			if !ok || resp.Err() != nil {
				return
			}
			m.apply(&resp)
		}
	}
}

// beatWhile asks etcd for answers, and the watch for its progress. It returns when ctx ends, or when
// etcd answers and the watch stays behind.
func (m *Mirror) beatWhile(ctx context.Context) {
	var (
		due   int64 // the revision that the watch has to reach
		since time.Time
	)
	for {
		sleep(ctx, beatEvery)
		if ctx.Err() != nil {
			return
		}
		head, err := m.beat(ctx)
		if err != nil {
			if ctx.Err() == nil {
				m.failed(err)
			}
			since = time.Now() // the watch may have been cut off as well
			continue
		}
		switch reached := m.State().Revision; {
		case reached >= due:
			due, since = head, time.Now()
		case time.Since(since) > lagPatience:
			m.cfg.Log.Warn("the watch is behind, reading again", "watch", reached, "etcd", due)
			return
		}
		asked, cancel := context.WithTimeout(ctx, beatTimeout)
		_ = m.cfg.Client.RequestProgress(asked) // an answer arrives at the watch
		cancel()
	}
}

// apply applies the events of an answer revision by revision, so that the history misses no state.
func (m *Mirror) apply(resp *clientv3.WatchResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	touched := make(map[string]bool)
	before := m.state.Revision
	for i, ev := range resp.Events {
		if of, ok := m.place(ev); ok {
			touched[of] = true
		}
		rev := ev.Kv.ModRevision
		m.state.Revision = max(m.state.Revision, rev)
		if i+1 < len(resp.Events) && resp.Events[i+1].Kv.ModRevision == rev {
			continue
		}
		for of := range touched {
			m.refresh(of, rev)
		}
		clear(touched)
	}
	for of := range touched { // the rest of a revision follows in another part
		m.refresh(of, m.state.Revision)
	}
	if resp.IsProgressNotify() {
		m.state.Revision = max(m.state.Revision, resp.Header.Revision)
	}
	m.state.Answered = time.Now()
	if m.state.Revision != before {
		m.note()
	}
}
