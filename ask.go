package etcdlock

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Request is somebody's wish that a holder lets go; see [Ask] and [Hold.Asked].
type Request struct {
	Owner  string    `json:"owner,omitempty"`
	Host   string    `json:"host,omitempty"`
	PID    int       `json:"pid,omitempty"`
	Since  time.Time `json:"since,omitzero"` // by the clock of the host
	Reason string    `json:"reason,omitempty"`

	Of []asked `json:"of"`
}

// asked is one hold that is asked for.
type asked struct {
	Key            string `json:"key"`
	CreateRevision int64  `json:"rev"`
}

// askPrefix is under what requests stand, beside the queue of a name.
func askPrefix(name string) string { return wire.Side(name, "ask/") }

// Ask asks whoever holds a name now, as a lock, an election or permits, to let go, and blocks
// until all of them have, or ctx ends. The holder decides: [Hold.Asked] tells him, if
// he listens. Nobody is evicted, and the caller gets nothing by it: to have the lock, wait
// in line for it.
//
// The request stands in etcd, beside the queue, for as long as the call goes on, under the
// lease of the session. Errors: that of ctx; [ErrLost] when the lease was lost;
// [ErrSessionClosed], [ErrInvalidName]; what etcd refuses.
func Ask(ctx context.Context, s *Session, name, reason string) error {
	return opError("ask for", name, s.ask(ctx, name, reason))
}

func (s *Session) ask(ctx context.Context, name, reason string) error {
	if err := s.usable(name); err != nil {
		return err
	}
	ls, err := s.awaitLease(ctx)
	if err != nil {
		return err
	}
	q := s.queue(name)
	all, _, err := q.List(ctx)
	if err != nil {
		return err
	}
	var holders []*mvccpb.KeyValue
	r := Request{Owner: s.cfg.owner, Host: hostname(), PID: os.Getpid(), Since: time.Now().UTC(), Reason: reason}
	for _, kv := range all {
		if len(queue.Blockers(kv, all)) == 0 {
			holders = append(holders, kv)
			r.Of = append(r.Of, asked{string(kv.Key), kv.CreateRevision})
		}
	}
	if len(holders) == 0 {
		return nil
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	key := askPrefix(name) + hex(ls.ID()) + "." + strconv.FormatInt(s.nextSerial(), 10)
	under, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ls.Context(), func() { cancel(ls.Err()) })()
	defer s.takeBack(ls.Context(), key)
	if _, err := s.client.KV.Put(under, key, string(value), clientv3.WithLease(ls.ID())); err != nil {
		return ended(under, err)
	}
	for _, kv := range holders {
		if err := q.AwaitGone(under, kv); err != nil {
			return ended(under, err)
		}
	}
	return nil
}

// ended is the cause of a context that has ended, or else the error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return err
}

// takeBack deletes a key of ours, in the background; with the lease it goes anyway.
func (s *Session) takeBack(ctx context.Context, key string) {
	s.spawn(func() {
		if err := queue.Delete(ctx, s.client.KV, key); err != nil && ctx.Err() == nil {
			s.log.Warn("a request is left to expire with its lease", zap.String("key", key), zap.Error(err))
		}
	})
}

func (s *Session) nextSerial() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return int64(s.serial)
}

// Asked tells of everybody who asks this holder to let go, by [Ask]. It is for the holder to
// decide: to come to an end soon, or to go on. The channel is closed when the hold ends.
//
// The first call starts to listen, with a goroutine and a watch in etcd that end with the hold;
// requests from before are told too. A request waits until it is received.
func (h *Hold) Asked() <-chan Request {
	ctx := h.Context()
	h.mu.Lock()
	first := h.asked == nil
	if first {
		h.asked = make(chan Request)
	}
	told := h.asked
	h.mu.Unlock()
	if !first {
		return told
	}
	listening := h.tenure.line.session.spawn(func() {
		defer close(told)
		h.listen(ctx)
	})
	if !listening {
		close(told) // the session has ended, and the hold with it
	}
	return told
}

// listen tells of requests until ctx ends.
func (h *Hold) listen(ctx context.Context) {
	s := h.tenure.line.session
	name, _ := wire.NameOf(h.entry.Key)
	told := make(map[string]bool)
	err := s.queue(name).Each(ctx, askPrefix(name), func(kv *mvccpb.KeyValue) {
		var r Request
		if told[string(kv.Key)] || json.Unmarshal(kv.Value, &r) != nil || !r.concerns(h) {
			return
		}
		told[string(kv.Key)] = true
		select {
		case h.asked <- r:
		case <-ctx.Done():
		}
	})
	if ctx.Err() == nil {
		s.log.Warn("cannot hear of requests to let go", zap.String("name", name), zap.Error(err))
	}
}

func (r *Request) concerns(h *Hold) bool {
	for _, a := range r.Of {
		if a.Key == h.entry.Key && a.CreateRevision == h.entry.CreateRevision {
			return true
		}
	}
	return false
}
