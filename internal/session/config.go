package session

import (
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/liveness"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// Config has the options of one session. Validate has the bound of each.
type Config struct {
	Client *clientv3.Client
	Log    *zap.Logger // nil: that of the client
	Host   string      // the name of this machine, for people

	TTL    time.Duration // of what is held under the lease
	TTLSet bool          // true: TTL was asked for, and is not the default
	Margin time.Duration // 0: a tenth of the granted TTL, at most a second
	Delay  time.Duration // how much longer the lease lives than the holds under it

	Lease     clientv3.LeaseID // the lease to adopt; NoLease for none
	LeaseFile string           // "" for none

	ListenAt *string            // the address of crash detection; nil: off
	Listener *liveness.Listener // of another session of this process, to be shared; nil: a new one

	// Dedicated is true for the session of one Run, see Session.Dedicated.
	Dedicated bool

	// OnState is told each state, the one before it (0 for the first one), and the reason. It is called with the session's mutex
	// held, and does not block. It may be nil.
	OnState func(from, to State, why error)
	// OnRenewal is the Renewed of each lease, see lease.Config.
	OnRenewal func(rtt, left time.Duration, err error)

	Hooks testhook.Hooks // what tests replace, and the clock
}

// Validate returns the error of the first option that cannot work.
func (c *Config) Validate() error {
	switch {
	case c.TTL < time.Second || c.TTL%time.Second != 0:
		return fmt.Errorf("%w: %v: a TTL must be in whole seconds, and at least 1s", lockerr.ErrInvalidTTL, c.TTL)
	case c.Margin < 0:
		return fmt.Errorf("%w: margin %v is negative", lockerr.ErrInvalidOption, c.Margin)
	case c.Margin > c.TTL/2:
		// Renewals are sent every third of the TTL. With a larger margin, one lost renewal would end
		// every hold.
		return fmt.Errorf("%w: margin %v is more than half of the TTL %v", lockerr.ErrInvalidOption, c.Margin, c.TTL)
	case c.Delay < 0 || c.Delay%time.Second != 0:
		return fmt.Errorf("%w: lock-delay %v: it must be in whole seconds", lockerr.ErrInvalidOption, c.Delay)
	case c.LeaseFile != "" && c.Lease != clientv3.NoLease:
		return fmt.Errorf("%w: WithLease and WithLeaseFile exclude each other: use one of them", lockerr.ErrInvalidOption)
	case c.ListenAt != nil:
		return validateListenAddress(*c.ListenAt)
	}
	return nil
}

// validateListenAddress refuses an address that candidates on other hosts cannot reach.
func validateListenAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	switch ip := net.ParseIP(host); {
	case err != nil && strings.Count(address, ":") > 1:
		return fmt.Errorf("%w: crash detection at %q: an IPv6 address needs brackets before its port, as net.JoinHostPort writes it (\"[fd00::1]:7400\")", lockerr.ErrInvalidOption, address)
	case err != nil || host == "" || ip != nil && ip.IsUnspecified():
		return fmt.Errorf("%w: crash detection at %q: give an address of this host that candidates can reach, with a port", lockerr.ErrInvalidOption, address)
	}
	return nil
}
