package etcdlock

import (
	"context"
	"time"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/timeline"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Etcd that was restored from a backup, or started with empty data, is another timeline: see
// package timeline, which notices it by what etcd answers. Then all that the session has is lost,
// by the end of its lease: every hold and every wait belongs to a lease. What the session knows
// of queues is dropped when it is used next (queue.Queue), and observers begin again.

// rolledBack ends a lease that is of an earlier timeline.
func (s *Session) rolledBack(c timeline.Change) {
	s.log.Error("etcd was rolled back: it goes on with other data than before, and all locks and terms from before are lost. "+
		"Fencing tokens may be smaller than before: give fenced resources a new epoch (docs/operating.md)",
		zap.Int64("revision", c.Revision), zap.Int64("revision-before", c.LastRevision),
		zap.Uint64("cluster", c.Cluster), zap.Uint64("cluster-before", c.LastCluster))
	s.mu.Lock()
	l, stale := s.lease, s.leased && s.era < c.Number
	s.mu.Unlock()
	if stale {
		l.End(lockerr.Lost(ErrRolledBack))
	}
}

// asking returns what looks at the answer to a renewal that is sent now. It proves nothing, as
// the member that gives it may lag.
func (s *Session) asking() func(h *pb.ResponseHeader, known bool) {
	m := s.timeline.Ask()
	return func(h *pb.ResponseHeader, known bool) {
		if !s.timeline.Doubts(m, h) {
			return
		}
		if done := s.askTimeline(); !known {
			select { // the lease ends, and this tells why
			case <-done:
			case <-time.After(doubtTimeout):
			}
		}
	}
}

// doubtTimeout is for how long the end of a lease waits for the reason.
const doubtTimeout = time.Second

// askTimeline asks etcd, in the background, for any key that the session may read, as the answer tells
// of another timeline. The channel is closed when etcd has answered or has not in time.
func (s *Session) askTimeline() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubting != nil {
		return s.doubting
	}
	done := make(chan struct{})
	name, ok := s.anyName()
	if !ok || s.state.state == StateClosed {
		close(done) // nothing is held, and the next request tells
		return done
	}
	s.doubting = done
	s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, tryTimeout)
		defer cancel()
		_, _ = s.kv.Get(ctx, wire.Key(name, clientv3.NoLease), clientv3.WithKeysOnly()) // the tracker is shown the answer
		s.mu.Lock()
		defer s.mu.Unlock()
		s.doubting = nil
		close(done)
	})
	return done
}

// anyName returns a name that is in use. Called with s.mu held.
func (s *Session) anyName() (name string, ok bool) {
	if name, ok := s.manager.anyName(); ok {
		return name, true
	}
	return s.followers.AnyName()
}
