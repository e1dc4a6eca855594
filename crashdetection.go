package etcdlock

import (
	"context"
	"fmt"
	"net"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/liveness"
)

// WithCrashDetection lets candidates notice at once, and not one TTL later, that a leader's process
// has died. The session listens on address, a TCP address of this host that all candidates can
// reach ("10.0.0.5:7400" or "[fd00::5]:7400", as [net.JoinHostPort] writes it; port 0 for any). A
// candidate with this option keeps a connection to the leader, which needs the option too. If the
// connection breaks and the leader's address then refuses connections three times in a row, the
// candidate revokes the leader's lease, and with it everything that the leader's session had. A
// refusal is not proof in every network: a firewall, a proxy, or an address that moved to another
// machine can end the term of a live leader before its deadline, so use the option in a network
// that you know, for work that is fenced by [Held.Token] or [Lock.Guard].
//
// See "Crashes, detected before the TTL ends" in docs/elections.md for the cases that are left to
// the TTL, and for permissions.
func WithCrashDetection(address string) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.listenAt = &address })
}

// validateListenAddress refuses an address that candidates on other hosts cannot reach.
func validateListenAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	switch ip := net.ParseIP(host); {
	case err != nil && strings.Count(address, ":") > 1:
		return fmt.Errorf("%w: crash detection at %q: an IPv6 address needs brackets before its port, as net.JoinHostPort writes it (\"[fd00::1]:7400\")", ErrInvalidOption, address)
	case err != nil || host == "" || ip != nil && ip.IsUnspecified():
		return fmt.Errorf("%w: crash detection at %q: give an address of this host that candidates can reach, with a port", ErrInvalidOption, address)
	}
	return nil
}

// detectCrashes opens or joins the listener, if crash detection is on. It prepares the liveness
// record also if not: a lease that is taken over may have one.
func (s *Session) detectCrashes() (err error) {
	switch {
	case s.cfg.listener != nil:
		s.listener = s.cfg.listener.Share()
	case s.cfg.listenAt != nil:
		if s.listener, err = liveness.Listen(s.cfg.hooks.Network, *s.cfg.listenAt, hostname()); err != nil {
			return err
		}
	}
	s.liveness, s.detector = liveness.New(liveness.Config{
		Context:  s.ctx,
		KV:       s.kv,
		Leases:   s.leases,
		Log:      s.log,
		Spawn:    s.spawn,
		Insist:   s.insist,
		Changes:  s.changesOf,
		Observe:  s.observeLease,
		OwnLease: s.Lease,
	}, s.listener)
	return nil
}

// changesOf reports the changes of a key from a revision on.
func (s *Session) changesOf(ctx context.Context, key string, from int64, tell func(*clientv3.Event) (more bool)) {
	s.queues.Queue(key).Changes(ctx, key, from, tell)
}

// observeLease reports the lease of each leader.
func (s *Session) observeLease(ctx context.Context, election string, tell func(liveness.Leader) (more bool)) error {
	return s.observe(ctx, election, func(l Leader) bool {
		return tell(liveness.Leader{Value: l.Value, Lease: l.Lease, CreateRevision: l.CreateRevision})
	})
}

// watchLeader watches, during a campaign, whether the leader's process is alive, until stop is
// called.
func (s *Session) watchLeader(ctx context.Context, election string) (stop func()) {
	if s == nil {
		return func() {} // the campaign fails
	}
	return s.detector.Watch(ctx, election)
}
