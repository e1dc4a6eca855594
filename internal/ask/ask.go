// Package ask has the requests to release a lock, which stand beside its queue in etcd: those that the
// calls of a session have posted, and those that its holds hear of. A leader that resigns when it is
// asked to announces that beside the queue too.
package ask

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Request asks the holder of a name to release it.
type Request struct {
	Name   string
	Reason string

	// The session that asks, as it describes itself.
	Owner string
	Host  string
	PID   int
	Since time.Time // by the clock of Host

	Candidate string // that is to lead an election next; empty for any
}

// posted is a Request as it stands in etcd.
type posted struct {
	Reason string    `json:"reason,omitempty"`
	Owner  string    `json:"owner,omitempty"`
	Host   string    `json:"host,omitempty"`
	PID    int       `json:"pid,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	To     string    `json:"to,omitempty"` // the candidate, as wire.Text has it
	Of     []asked   `json:"of"`
}

func newPosted(r Request) posted {
	return posted{Reason: r.Reason, Owner: r.Owner, Host: r.Host, PID: r.PID, Since: r.Since, To: wire.Text(r.Candidate)}
}

// asked is one entry whose holder is asked.
type asked struct {
	Key            string `json:"key"` // as wire.Text has it
	CreateRevision int64  `json:"rev"`
}

// Prefix is the prefix of the requests beside the queue of a name.
func Prefix(name string) string { return wire.Side(name, "ask/") }

// Config is what Requests are made with.
type Config struct {
	KV     clientv3.KV
	Leases clientv3.Lease // tells which candidates live
	Queues *queue.Queues
	Log    *zap.Logger

	// Begin calls note and starts a goroutine with run, unless calls are not admitted.
	Begin func(note, run func()) error
	// Suspect makes a key uncertain.
	Suspect func(ls *lease.Lease, key string)
	// Gone is called when a posted request is gone, or is left to its lease.
	Gone func()
}

// Requests are the requests of one session. Their mutex is a leaf.
type Requests struct {
	cfg Config

	mu     sync.Mutex
	serial int                             // numbers the posted requests
	calls  map[int]context.CancelCauseFunc // ends a call of Ask under way; nil for an announcement
}

// New returns Requests without any.
func New(cfg Config) *Requests {
	return &Requests{cfg: cfg, calls: make(map[int]context.CancelCauseFunc)}
}

// Ask asks all present holders of r.Name to release it. It blocks until all of them have released,
// or ctx or the lease ends.
func (s *Requests) Ask(ctx context.Context, ls *lease.Lease, r Request) error {
	q := s.cfg.Queues.Queue(r.Name)
	under, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ls.Context(), func() { cancel(ls.Err()) })()
	all, _, err := q.List(under)
	if err != nil {
		return err
	}
	var holders []*mvccpb.KeyValue
	for _, c := range queue.Contenders(r.Name, all) {
		if len(c.Ahead) == 0 {
			holders = append(holders, c.KeyValue)
		}
	}
	if len(holders) == 0 {
		return nil
	}
	if err := s.request(ctx, under, cancel, ls, r, holders...); err != nil {
		return err
	}
	for _, kv := range holders {
		if err := q.AwaitGone(under, kv); err != nil {
			if under.Err() != nil {
				return ended(ctx, under)
			}
			return err
		}
	}
	return nil
}

// request posts a request to the holders of some entries, and blocks until it stands. It is withdrawn
// when under ends.
func (s *Requests) request(ctx, under context.Context, cancel context.CancelCauseFunc, ls *lease.Lease, r Request, holders ...*mvccpb.KeyValue) error {
	p := newPosted(r)
	for _, kv := range holders {
		p.Of = append(p.Of, asked{wire.Text(string(kv.Key)), kv.CreateRevision})
	}
	stands := make(chan error, 1)
	if err := s.post(under, cancel, ls, Prefix(r.Name), p, func(err error) { stands <- err }); err != nil {
		return err
	}
	select {
	case err := <-stands:
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			ls.End(lockerr.Lost(lockerr.ErrRevoked))
			return ls.Err()
		}
		if err != nil && under.Err() != nil {
			return ended(ctx, under)
		}
		return err
	case <-under.Done():
		return ended(ctx, under)
	}
}

// ended is why a call has ended: by its own context, or by the end of the session or its lease.
func ended(ctx, under context.Context) error {
	if ctx.Err() != nil {
		return lockerr.OfContext(ctx)
	}
	return context.Cause(under)
}

// post writes a request, or an announcement, under a prefix, and deletes it when ctx ends, which is at
// the end of the lease at the latest. Nothing is sent to write it once ctx has ended. Both happen in the
// background, as a write that is not answered may take effect later. written is called when the key is
// written, or cannot be. Cancel ends ctx by cancel, unless that is nil.
func (s *Requests) post(ctx context.Context, cancel context.CancelCauseFunc, ls *lease.Lease, prefix string, v any, written func(error)) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var id int
	return s.cfg.Begin(func() {
		id = s.add(cancel)
	}, func() {
		key := prefix + wire.Hex(ls.ID()) + "." + strconv.Itoa(id)
		rev, unsure, err := queue.Put(ctx, s.cfg.KV, key, string(value), ls.ID())
		written(err)
		if err == nil {
			<-ctx.Done() // or the lease's end, with which ctx ends too
			s.takeBack(ls, key, rev)
		}
		if unsure {
			s.cfg.Suspect(ls, key) // a try that was not answered may write it later
		}
		s.remove(id)
		s.cfg.Gone()
	})
}

func (s *Requests) add(cancel context.CancelCauseFunc) (id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	s.calls[s.serial] = cancel
	return s.serial
}

func (s *Requests) remove(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, id)
}

// takeBack deletes what this session has posted, as it was written at a revision; with the lease it goes
// anyway.
func (s *Requests) takeBack(ls *lease.Lease, key string, rev int64) {
	if err := queue.Delete(ls.Context(), s.cfg.KV, key, rev); err != nil && ls.Err() == nil {
		s.cfg.Log.Warn("cannot delete a key beside a queue; it expires with its lease", zap.String("key", key), zap.Error(err))
	}
}

// Cancel ends all calls, for a cause, and returns how many requests are not gone yet. An announcement
// stays with its term: the next process deletes it, or replaces it by its own.
func (s *Requests) Cancel(cause error) (pending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.calls {
		if cancel != nil {
			cancel(cause)
			pending++
		}
	}
	return pending
}

// OfOthers reports whether a key is a request or an announcement under a lease that no call of this
// process has posted. No later call of this process gets its number.
func (s *Requests) OfOthers(key string, under clientv3.LeaseID) bool {
	_, by, ok := strings.Cut(key, Prefix(""))
	if !ok {
		_, by, ok = strings.Cut(key, announcements(""))
	}
	number, ours := strings.CutPrefix(by, wire.Hex(under)+".")
	n, err := strconv.Atoi(number)
	if !ok || !ours || err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, own := s.calls[n]; own {
		return false
	}
	s.serial = max(s.serial, n)
	return true
}

// Hear reports the requests that concern an entry until ctx ends.
func (s *Requests) Hear(ctx context.Context, e *queue.Entry, tell func(Request)) {
	name, _ := wire.NameOf(e.Key)
	h := newHearing(name, e, func(r Request, _ bool) (done bool) {
		tell(r)
		return true
	})
	err := s.cfg.Queues.Queue(name).FollowBeside(ctx, Prefix(name), nil, func(all []*mvccpb.KeyValue) error {
		h.hear(all)
		return nil
	})
	if ctx.Err() == nil {
		s.cfg.Log.Warn("cannot listen for release requests; Asked receives none any more", zap.String("name", name), zap.Error(err))
		<-ctx.Done() // a caller that goes on before would take this for the end of the hold
	}
}

// hearing reports the requests that concern an entry.
type hearing struct {
	name string
	of   *queue.Entry
	// tell returns true if the request is not to be reported again. first is true the first time.
	tell     func(r Request, first bool) (done bool)
	received map[string]received // by key: the requests that stood at the last look
}

// received is a request that was reported.
type received struct {
	rev   int64 // the CreateRevision of its key
	done  bool
	pause time.Duration // before it is reported again
	next  time.Time
}

// The pauses between two reports of a request that is not done.
const (
	firstAgain   = time.Second
	longestAgain = 30 * time.Second
)

func newHearing(name string, of *queue.Entry, tell func(r Request, first bool) (done bool)) *hearing {
	return &hearing{name: name, of: of, tell: tell}
}

// hear reports the requests among some keys, in their order. A request that is not done is reported again
// after a pause, while it stands. again is the time until the next of them; 0 if there is none.
func (h *hearing) hear(all []*mvccpb.KeyValue) (again time.Duration) {
	stand := make(map[string]received)
	for _, kv := range all {
		var p posted
		key := string(kv.Key)
		if !strings.HasPrefix(key, Prefix(h.name)) || json.Unmarshal(kv.Value, &p) != nil || !p.concerns(h.of) {
			continue
		}
		r := h.received[key]
		first := r.rev != kv.CreateRevision
		if first {
			r = received{rev: kv.CreateRevision, pause: firstAgain}
		}
		if !r.done && time.Until(r.next) <= 0 {
			r.done = h.tell(Request{
				Name: h.name, Reason: p.Reason, Owner: p.Owner, Host: p.Host, PID: p.PID, Since: p.Since, Candidate: wire.FromText(p.To),
			}, first)
			r.next, r.pause = time.Now().Add(r.pause), min(2*r.pause, longestAgain)
		}
		if left := max(time.Until(r.next), 1); !r.done && (again == 0 || left < again) {
			again = left
		}
		stand[key] = r
	}
	h.received = stand
	return again
}

// concerns reports whether a request is to the holder of an entry. Of its key only the end counts,
// because clients with different namespaces see different beginnings.
func (p *posted) concerns(e *queue.Entry) bool {
	for _, a := range p.Of {
		if wire.Tail(wire.FromText(a.Key)) == wire.Tail(e.Key) && a.CreateRevision == e.CreateRevision {
			return true
		}
	}
	return false
}
