package etcdlock

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// tryTimeout bounds one try to grant or revoke a lease.
const tryTimeout = 5 * time.Second

// run keeps one lease after the other until the session ends. It is the session's
// only goroutine at rest.
func (s *Session) run() {
	failed := 0 // leases in a row that were over as soon as they came
	for l := s.lease; l != nil; l = s.nextLease(l, failed) {
		began := s.cfg.hooks.Clock()
		cause := l.Keep()
		if s.ctx.Err() != nil {
			return
		}
		s.lose(l, cause)
		if failed++; s.cfg.hooks.Clock()-began > l.TTL()/2 {
			failed = 0
		}
	}
}

// lose notes that the lease has ended. Its holds ended with it, by their contexts.
func (s *Session) lose(l *lease.Lease, cause error) {
	s.mu.Lock()
	if s.ending != nil {
		s.mu.Unlock()
		return // the end of the session has ended it
	}
	s.leased = false
	number := s.number
	s.enter(StateLost)
	pending := errors.Is(cause, ErrExpired) || errors.Is(cause, ErrRolledBack)
	if pending {
		s.pendingRevokes = append(s.pendingRevokes, l)
	}
	s.mu.Unlock()
	holds, lost := s.manager.leaseLost(number)
	s.log.Warn("lease lost, and with it everything held under it; granting another",
		zap.String("lease", wire.Hex(l.ID())), zap.Error(cause), zap.Int("holds", holds), zap.Strings("lost", lost))
	if pending {
		s.tasks.Go(func() { s.revokeLater(l) })
	}
	s.liveness.LeaseLost(l.ID(), cause)
}

// nextLease grants a lease after the loss of another one; nil when the session
// ended before it had one. failed is how many tries came to nothing already. It does not give
// up when etcd refuses: a space alarm is disarmed, and a user gets its password back. Callers
// wait as they do while etcd is away, and each refusal is logged once.
func (s *Session) nextLease(last *lease.Lease, failed int) *lease.Lease {
	s.mu.Lock()
	number := s.number + 1
	s.mu.Unlock()
	var id clientv3.LeaseID
	refused := "" // the last refusal
	for n := failed; ; n++ {
		select {
		case <-time.After(backoff.Delay(n, 50*time.Millisecond, s.cfg.ttl/2, int64(last.ID()))):
		case <-s.ctx.Done():
			return nil
		}
		if n > failed {
			s.reconnect()
		}
		// The lease counts from when it was asked for: one that takes half of its TTL
		// to come is better asked for again.
		ctx, cancel := context.WithTimeout(s.ctx, min(tryTimeout, s.cfg.ttl/2))
		l, err := lease.Grant(ctx, s.ctx, s.leaseConfig(number), &id)
		cancel()
		switch {
		case err == nil:
		case answer.Final(err):
			if err.Error() != refused {
				refused = err.Error()
				s.log.Error("etcd refuses a new lease, without which nothing can be locked; trying again until it is put right", zap.Error(err))
			}
			continue
		default:
			s.log.Debug("no new lease yet", zap.Error(err))
			continue
		}
		s.mu.Lock()
		s.lease, s.leased, s.number, s.era = l, true, number, s.timeline.Number()
		if s.ending != nil {
			s.mu.Unlock()
			return nil // finish revokes it
		}
		s.enter(StateConnected)
		s.mu.Unlock()
		s.manager.setLease(l, number)
		s.liveness.SetLease(l)
		s.record(l.ID())
		s.log.Info("new lease granted; what was held under the lost one stays lost",
			zap.String("lease", wire.Hex(l.ID())), zap.String("lost", wire.Hex(last.ID())))
		return l
	}
}

// reconnect makes gRPC try to connect now. After a long outage it would wait for up
// to two minutes otherwise: that is how far its own backoff grows, and etcd's client
// leaves it at that.
func (s *Session) reconnect() {
	if conn := s.client.ActiveConnection(); conn != nil {
		conn.ResetConnectBackoff()
	}
}

// answered takes note of whether etcd answers the renewals.
func (s *Session) answered(number int, ok bool, err error) {
	state := StateSuspended
	if ok {
		state = StateConnected
	}
	s.mu.Lock()
	if s.ending != nil {
		s.mu.Unlock()
		return
	}
	changed := s.enter(state)
	s.mu.Unlock()
	s.manager.suspend(number, !ok)
	switch {
	case !changed:
	case ok:
		s.log.Info("etcd answers renewals of the lease again")
	default:
		s.log.Warn("etcd does not answer renewals of the lease; what is held stays held until its deadline",
			zap.Strings("endpoints", s.client.Endpoints()), zap.Error(err))
	}
}
