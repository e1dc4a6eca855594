package etcdlock

import (
	"context"
	"errors"
	"syscall"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/backoff"
)

const (
	// sentinelAfter is how long a campaign must last for its leader to be watched.
	sentinelAfter = 100 * time.Millisecond
	// refusals is how many in a row tell that a process is dead; one might come from a
	// machine that is out of room for another connection.
	refusals = 3
	// refusalPause lies between them.
	refusalPause = 10 * time.Millisecond
	// dialTimeout is for an address that does not answer, of which nothing follows.
	dialTimeout = 2 * time.Second
)

// watchLeader watches whether the leader's process lives, see [WithCrashDetection], until
// stop is called.
func (s *Session) watchLeader(ctx context.Context, name string) (stop func()) {
	if s == nil || s.beacon == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	if !s.spawn(func() {
		defer close(done)
		select {
		case <-time.After(sentinelAfter):
			s.sentinel(ctx, name)
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
	}) {
		close(done)
	}
	return func() { cancel(); <-done }
}

// sentinel has one sentry at a time, for whoever leads.
func (s *Session) sentinel(ctx context.Context, name string) {
	var watched Leader
	dismiss := func() {}
	defer func() { dismiss() }()
	err := s.observe(ctx, name, func(l Leader) bool {
		if l.Lease == watched.Lease && l.CreateRevision == watched.CreateRevision {
			return true
		}
		dismiss()
		watched, dismiss = l, func() {}
		if l.Vacant() || l.Lease == clientv3.NoLease || l.Lease == s.Lease() {
			return true
		}
		post, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.sentry(post, name, l)
		}()
		dismiss = func() { cancel(); <-done }
		return true
	})
	if err != nil && s.ctx.Err() == nil && ctx.Err() == nil {
		s.log.Warn("crash detection is off: cannot observe who leads", zap.String("name", name), zap.Error(err))
	}
}

// sentry watches one leader until it is dead, or ctx ends.
func (s *Session) sentry(ctx context.Context, name string, l Leader) {
	for n := 0; ; n++ {
		r, at, err := s.alive(ctx, l.Lease)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Warn("crash detection is off for a leader", zap.String("name", name), zap.Error(err))
			return
		case s.beacon.judges(r):
			lived, dead := s.beacon.probe(ctx, r.Address)
			if dead && s.condemn(ctx, name, l, r, at) {
				return
			}
			if lived {
				n = 0 // the connection broke: ask again at once
			}
		}
		select {
		// It may tell where it is in a moment, or never.
		case <-time.After(backoff.Delay(n, 10*time.Millisecond, 10*time.Second, int64(s.beacon.record.PID))):
		case <-ctx.Done():
			return
		}
	}
}

// judges tells whether a refusal by that address means anything to us.
func (b *beacon) judges(r aliveRecord) bool {
	return r.Address != "" && !r.Condemned && (!isLoopback(r.Address) || r.Scope == loopbackScope())
}

// probe keeps a connection to an address for as long as that lasts. lived: there was one.
// dead: connections are refused, by a host that answers.
func (b *beacon) probe(ctx context.Context, address string) (lived, dead bool) {
	for refused := 0; refused < refusals; refused++ {
		if refused > 0 {
			select {
			case <-time.After(refusalPause):
			case <-ctx.Done():
				return false, false
			}
		}
		bounded, cancel := context.WithTimeout(ctx, dialTimeout)
		c, err := b.net.dial(bounded, address)
		cancel()
		switch {
		case err == nil:
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			_, _ = c.Read(make([]byte, 1)) // until it ends, on whichever side
			stop()
			_ = c.Close()
			return true, false
		case ctx.Err() != nil || !errors.Is(err, syscall.ECONNREFUSED):
			return false, false
		}
	}
	return false, true
}

// condemn ends the lease of a process that is dead. It first marks the record that the
// judgement was based on, if that still stands: so whoever takes the lease over in this
// instant, and tells another address, either keeps it or never gets it.
func (s *Session) condemn(ctx context.Context, name string, l Leader, r aliveRecord, at int64) bool {
	r.Condemned = true
	done, err := s.replaceAlive(ctx, l.Lease, at, r)
	if err == nil && done {
		err = s.insist(ctx, func(ctx context.Context) error {
			_, err := s.leases.Revoke(ctx, l.Lease)
			if errors.Is(err, rpctypes.ErrLeaseNotFound) {
				return nil // by somebody else
			}
			return err
		})
	}
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil:
		s.log.Warn("the leader's process is dead, but its lease cannot be revoked, and has to run out",
			zap.String("name", name), zap.String("lease", hex(l.Lease)), zap.Error(err))
		return true
	case done:
		s.log.Warn("the leader's process is dead: its lease was revoked",
			zap.String("name", name), zap.String("leader", l.Value), zap.String("lease", hex(l.Lease)),
			zap.String("address", r.Address), zap.String("host", r.Host), zap.Int("pid", r.PID))
		return true
	default:
		return false // it told something else meanwhile
	}
}
