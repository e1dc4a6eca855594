package etcdlock

import (
	"context"
	"errors"
	"fmt"
	"os"
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

	// firstProbe is the pause before the second probe of a leader. It doubles with each
	// probe up to mostProbe, unless the connection before lasted for steady. Each probe
	// begins with one linearizable read. A candidate therefore makes at most 24 of them in
	// the first minute and 12 in each further one; and at most 60 in any minute, even if the
	// address accepts connections and closes them in the rhythm that costs most.
	firstProbe = 10 * time.Millisecond
	mostProbe  = 10 * time.Second
	steady     = 10 * time.Second
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
		case r.Condemned:
			// By another candidate, which may have died since, or by an earlier try of our own
			// whose answer was lost. Nobody can take the lease over any more.
			s.revokeDead(name, l, r)
			return
		case s.beacon.judges(r):
			began := time.Now()
			lived, dead := s.beacon.probe(ctx, r.Address)
			if dead && s.condemn(ctx, name, l, r, at) {
				return
			}
			if lived && time.Since(began) >= steady {
				n = 0 // the connection broke: ask again at once
			}
		}
		select {
		// It may tell where it is in a moment, or never.
		case <-time.After(backoff.Delay(n, firstProbe, mostProbe, int64(s.Lease()))):
		case <-ctx.Done():
			return
		}
	}
}

// judges tells whether a refusal by that address means anything to us.
func (b *beacon) judges(r aliveRecord) bool {
	return r.Address != "" && (!isLoopback(r.Address) || r.Scope == loopbackScope())
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

// condemn marks the record of a process that is dead, if the record that the judgement was
// based on still stands, and has the lease revoked. A process that takes the lease over in
// this instant, and tells another address, either keeps the lease or never gets it. It is
// false if the record was replaced.
//
// The mark is final, and any candidate that finds it revokes the lease: the revocation does
// not depend on the process that wrote the mark.
func (s *Session) condemn(ctx context.Context, name string, l Leader, r aliveRecord, at int64) bool {
	r.Condemned, r.By = true, fmt.Sprintf("%s, process %d", hostname(), os.Getpid())
	done, err := s.replaceAlive(ctx, l.Lease, at, r)
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil:
		s.warnDead(name, l, r, err)
		return true
	case done:
		s.revokeDead(name, l, r)
	}
	return done
}

// revokeDead revokes the lease of a leader whose record is marked, in a goroutine of its own:
// the sentry that asks for it is dismissed as soon as the leader's key is gone, which may be
// before the answer is here. It ends with the session, or when etcd has answered.
func (s *Session) revokeDead(name string, l Leader, r aliveRecord) {
	s.spawn(func() {
		tried, revoked := false, false
		err := s.insist(s.ctx, func(ctx context.Context) error {
			_, err := s.leases.Revoke(ctx, l.Lease)
			switch {
			case errors.Is(err, rpctypes.ErrLeaseNotFound):
				revoked = tried // by an earlier try; else by another candidate, which tells so
				return nil
			case err != nil:
				tried = true
				return err
			}
			revoked = true
			return nil
		})
		switch {
		case revoked:
			s.log.Warn("the leader's process is dead: its lease was revoked", deadLeader(name, l, r)...)
		case err != nil && s.ctx.Err() == nil:
			s.warnDead(name, l, r, err)
		}
	})
}

func (s *Session) warnDead(name string, l Leader, r aliveRecord, err error) {
	s.log.Warn("the leader's process is dead, but its lease cannot be revoked, and has to run out",
		append(deadLeader(name, l, r), zap.Error(err))...)
}

func deadLeader(name string, l Leader, r aliveRecord) []zap.Field {
	return []zap.Field{
		zap.String("name", name), zap.String("leader", l.Value), zap.String("lease", hex(l.Lease)),
		zap.String("address", r.Address), zap.String("host", r.Host), zap.Int("pid", r.PID),
	}
}
