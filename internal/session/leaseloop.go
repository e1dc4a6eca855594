package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/timeline"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// tryTimeout bounds one try to grant or revoke a lease.
const tryTimeout = 5 * time.Second

// current is the present lease of a session, or the last one while there is none.
type current struct {
	lease  *lease.Lease
	leased bool // true: it is the present one
	number int  // counted from 1
	era    int  // the timeline in which it was granted
}

// firstLease returns the lease that Open returns with: the one to adopt, or a new one.
func (s *Session) firstLease(ctx context.Context) (l *lease.Lease, adopted bool, err error) {
	switch {
	case s.Client.Ctx().Err() != nil:
		return nil, false, lockerr.ErrClientClosed
	case s.cfg.Lease != clientv3.NoLease:
		l, err = s.adoptGiven(ctx)
	default:
		l, err = s.adoptFromFile(ctx)
	}
	if l != nil || err != nil {
		return l, true, err
	}
	l, err = s.grantFirst(ctx)
	return l, false, err
}

// grantFirst grants the first lease of the session.
func (s *Session) grantFirst(ctx context.Context) (l *lease.Lease, err error) {
	var id clientv3.LeaseID
	err = s.insistAloud(ctx, func(ctx context.Context) (err error) {
		l, err = lease.Grant(ctx, s.ctx, s.leaseConfig(1), &id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l.TTL() > s.cfg.TTL {
		l.End(lockerr.ErrInvalidTTL)
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		defer cancel()
		_ = l.Revoke(try) // it runs out by itself otherwise
		return nil, fmt.Errorf("%w: %v is below the minimum TTL of this etcd, which is %v", lockerr.ErrInvalidTTL, s.cfg.TTL, l.Granted())
	}
	return l, nil
}

// leaseConfig is the config of the lease with a number.
func (s *Session) leaseConfig(number int) lease.Config {
	cfg := lease.Config{
		Client:      s.Leases,
		TTL:         s.cfg.TTL + s.cfg.Delay,
		Delay:       s.cfg.Delay,
		Margin:      s.cfg.Margin,
		Clock:       s.cfg.Hooks.Clock,
		Jumps:       s.cfg.Hooks.Jumps,
		Answered:    func(ok bool, err error) { s.answered(number, ok, err) },
		Renewed:     s.cfg.OnRenewal,
		Asking:      s.asking,
		Reconnect:   s.reconnect,
		FromReceipt: s.cfg.Hooks.FromReceipt,
	}
	if s.streams.Renewals != nil {
		cfg.Renewer = s.streams.Renewals
	}
	return cfg
}

// keepLeases keeps one lease after the other until the session ends. At rest it is the only goroutine
// of the session.
func (s *Session) keepLeases(l *lease.Lease) {
	failed := 0 // leases in a row that ended as soon as they were granted
	for number := 1; l != nil; number++ {
		began := s.cfg.Hooks.Clock()
		cause := l.Keep()
		if s.ctx.Err() != nil {
			return
		}
		s.lose(l, cause)
		if failed++; s.cfg.Hooks.Clock()-began > l.TTL()/2 {
			failed = 0
		}
		l = s.nextLease(l, number+1, failed)
	}
}

// nextLease grants a lease after the loss of another one. It returns nil if the session ends before
// there is a lease. failed is the number of leases before it that came to nothing. A refusal of etcd
// does not end it: a space alarm is disarmed, and a user gets its password back. Callers wait as they
// do while etcd is away, and each refusal is logged once.
func (s *Session) nextLease(last *lease.Lease, number, failed int) (l *lease.Lease) {
	policy := etcdkv.Policy{
		First: 50 * time.Millisecond, Longest: s.cfg.TTL / 2, Seed: int64(last.ID()), Failed: failed + 1, Persist: true,
		// The lease counts from when it was asked for. A lease that takes half of its TTL to come is
		// better asked for again.
		Bound: func(ctx context.Context, _ int) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, min(tryTimeout, s.cfg.TTL/2))
		},
	}
	var id clientv3.LeaseID
	refused := "" // the last refusal
	tried := false
	_, err := etcdkv.Retry(s.ctx, policy, func(ctx context.Context) (err error) {
		if tried {
			s.reconnect()
		}
		tried = true
		l, err = lease.Grant(ctx, s.ctx, s.leaseConfig(number), &id)
		switch {
		case err == nil:
		case !answer.Final(err):
			s.Log.Debug("no new lease yet", zap.Error(err))
		case err.Error() != refused:
			refused = err.Error()
			s.Log.Error("etcd refuses a new lease, and no lock can be acquired without one; trying again until etcd grants it", zap.Error(err))
		}
		return err
	})
	if err != nil || !s.begin(l, number) {
		return nil
	}
	s.Log.Info("new lease granted; the holds of the lost lease stay lost",
		zap.String("lease", wire.Hex(l.ID())), zap.String("lost", wire.Hex(last.ID())))
	return l
}

// begin makes a lease the present one. It returns false if the session has ended meanwhile: finish
// then revokes the lease.
func (s *Session) begin(l *lease.Lease, number int) bool {
	s.mu.Lock()
	s.current = current{lease: l, leased: true, number: number, era: s.Timeline.Number()}
	if s.ending != nil {
		s.mu.Unlock()
		return false
	}
	s.enter(StateConnected, nil)
	s.mu.Unlock()
	s.manager.SetLease(l, number)
	s.liveness.SetLease(l)
	s.presence.record(l.ID())
	return true
}

// answered notes whether etcd answers the renewals of a lease.
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
	changed := s.enter(state, err)
	s.mu.Unlock()
	s.manager.Suspend(number, !ok)
	switch {
	case !changed:
	case ok:
		s.Log.Info("etcd answers renewals of the lease again")
	default:
		s.Log.Warn("etcd does not answer renewals of the lease; holds stay valid until their deadline",
			zap.Strings("endpoints", s.Client.Endpoints()), zap.Error(err))
	}
}

// lose notes that the lease has ended. Its holds have ended with it, by their contexts.
func (s *Session) lose(l *lease.Lease, cause error) {
	s.mu.Lock()
	if s.ending != nil {
		s.mu.Unlock()
		return // the end of the session has ended it
	}
	s.current.leased = false
	number := s.current.number
	s.enter(StateLost, cause)
	pending := errors.Is(cause, lockerr.ErrExpired) || errors.Is(cause, lockerr.ErrRolledBack)
	if pending {
		s.pendingRevokes = append(s.pendingRevokes, l)
	}
	s.mu.Unlock()
	holds, lost := s.manager.LeaseLost(number)
	s.Log.Warn("lease lost, and with it everything held under it; requesting a new lease",
		zap.String("lease", wire.Hex(l.ID())), zap.Error(cause), zap.Int("holds", holds), zap.Strings("lost", lost))
	if pending {
		s.tasks.Go(func() { s.revokeLater(l) })
	}
	s.liveness.LeaseLost(l.ID(), cause)
}

// An etcd that was restored from a backup, or started with empty data, is another timeline. Package
// timeline notices it by the answers of etcd. Everything that the session has is lost then, by the end
// of its lease, because every hold and every wait belongs to a lease. What the session knows of queues
// is dropped when it is used next (queue.Queue), and observers begin again.

// rolledBack ends a lease of an earlier timeline.
func (s *Session) rolledBack(c timeline.Change) {
	s.Log.Error("etcd was rolled back: it continues with other data than before, and all earlier locks and terms are lost. "+
		"Fencing tokens may be smaller than before: give fenced resources a new epoch (docs/operating.md)",
		zap.Int64("revision", c.Revision), zap.Int64("revision-before", c.LastRevision),
		zap.Uint64("cluster", c.Cluster), zap.Uint64("cluster-before", c.LastCluster))
	s.mu.Lock()
	now := s.current
	s.mu.Unlock()
	if now.leased && now.era < c.Number {
		now.lease.End(lockerr.Lost(lockerr.ErrRolledBack))
	}
}

// asking returns the function that looks at the answer to a renewal that is sent now. The answer
// proves nothing, as the member that gives it may lag.
func (s *Session) asking() func(h *pb.ResponseHeader, known bool) {
	m := s.Timeline.Ask()
	return func(h *pb.ResponseHeader, known bool) {
		if !s.Timeline.Doubts(m, h) {
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

// askTimeline asks etcd, in the background, for any key that the session may read, because the answer
// tells of another timeline. The channel is closed when etcd has answered, or has not in time.
func (s *Session) askTimeline() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doubting != nil {
		return s.doubting
	}
	done := make(chan struct{})
	name, ok := s.manager.AnyName()
	if !ok {
		name, ok = s.Followers.AnyName()
	}
	if !ok || s.state.state == StateClosed {
		close(done) // nothing is held, and the next request tells
		return done
	}
	s.doubting = done
	s.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, tryTimeout)
		defer cancel()
		_, _ = s.KV.Get(ctx, wire.Key(name, clientv3.NoLease), clientv3.WithKeysOnly()) // the tracker is shown the answer
		s.mu.Lock()
		defer s.mu.Unlock()
		s.doubting = nil
		close(done)
	})
	return done
}
