package etcdlock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/lease"
)

// WithCrashDetection lets candidates notice at once, and not one TTL later, that a
// leader's process has died: it listens on address, a TCP address of this host that all
// candidates can reach ("10.0.0.5:7400" or "[fd00::5]:7400", as [net.JoinHostPort] writes
// it; port 0 for any), and tells it to them by a key under its lease. While it waits in a campaign it keeps a connection to the leader. When
// that breaks and the leader's address then refuses connections, three times in a row,
// the leader's process is gone: the candidate revokes its lease, and with it all that the
// dead process had. Both sides need the option. It is off without it.
//
// Only a refusal counts. An address that does not answer, cannot be reached or resets
// what it accepted may belong to a process that lives, and is left to its TTL; so are a
// process that is stopped, whose kernel goes on accepting, and a host that died with it.
//
// What it risks: a refusal proves that nobody listens there, not that the leader is
// dead. A firewall that rejects, instead of dropping, connections to a leader that lives;
// another machine that has got its address; a proxy in between: they make a leader that
// lives lose its term at once, before its deadline, and it is told only as fast as etcd
// tells it (as when an administrator revokes its lease, see the package documentation).
// Then two may be at work for a moment. [Held.Token] and [Lock.Guard] are right all the
// time. Use it in a network that you know, for work that is fenced. An address of the
// loopback is believed only by processes that share it.
//
// With authentication on, a user needs to read and write the keys that begin with
// "etcdlock.alive."; and to revoke a lease it takes permission to write each key
// under it, without which the TTL decides as ever.
func WithCrashDetection(address string) SessionOption {
	return sessionOptionFunc(func(c *sessionConfig) { c.alive = &address })
}

// aliveKey is the key under a lease that tells where its process listens. Without a slash
// it lies in the range of no name.
func aliveKey(id clientv3.LeaseID) string { return "etcdlock.alive." + hex(id) }

// aliveRecord is what stands there.
type aliveRecord struct {
	Address string `json:"address,omitempty"` // none: nothing can be told of the process
	// Scope tells which processes share the address's loopback; empty if it is none.
	Scope string `json:"scope,omitempty"`
	Host  string `json:"host,omitempty"`
	PID   int    `json:"pid,omitempty"`
	// Condemned says that the process is dead. The mark is final: nobody may take the lease
	// over any more, and any process that finds the mark revokes the lease.
	Condemned bool `json:"condemned,omitempty"`
	// By is the process that found it dead.
	By string `json:"by,omitempty"`
}

func (r aliveRecord) encode() string {
	b, _ := json.Marshal(r) // strings and numbers only
	return string(b)
}

// network is TCP, but in tests.
type network interface {
	listen(address string) (net.Listener, error)
	dial(ctx context.Context, address string) (net.Conn, error)
}

type tcp struct{}

func (tcp) listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

func (tcp) dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// beacon listens for as long as the process lives, or its sessions do.
type beacon struct {
	net      network
	listener net.Listener
	record   aliveRecord
	tasks    sync.WaitGroup

	mu    sync.Mutex
	users int // sessions
	conns map[net.Conn]bool
}

// maxWatchers is how many candidates a leader keeps a connection to; others have to ask
// again.
const maxWatchers = 256

func newBeacon(n network, address string) (*beacon, error) {
	host, _, err := net.SplitHostPort(address)
	switch ip := net.ParseIP(host); {
	case err != nil && strings.Count(address, ":") > 1:
		return nil, fmt.Errorf("%w: crash detection at %q: an IPv6 address needs brackets before its port, as net.JoinHostPort writes it (\"[fd00::1]:7400\")", ErrInvalidOption, address)
	case err != nil || host == "" || ip != nil && ip.IsUnspecified():
		return nil, fmt.Errorf("%w: crash detection at %q: give an address of this host that candidates can reach, with a port", ErrInvalidOption, address)
	}
	l, err := n.listen(address)
	if err != nil {
		return nil, fmt.Errorf("crash detection: %w", err)
	}
	b := &beacon{net: n, listener: l, users: 1, conns: map[net.Conn]bool{}}
	b.record = aliveRecord{Address: l.Addr().String(), Host: hostname(), PID: os.Getpid()}
	if isLoopback(b.record.Address) {
		b.record.Scope = loopbackScope()
	}
	b.tasks.Go(b.accept)
	return b, nil
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// loopbackScope is the same for two processes that reach each other by the loopback: on
// Linux those of one network namespace, of one start of one machine.
var loopbackScope = sync.OnceValue(func() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	ns, nserr := os.Readlink("/proc/self/ns/net")
	if err != nil || nserr != nil {
		return hostname()
	}
	return strings.TrimSpace(string(boot)) + " " + ns
})

// share is for another session of the process.
func (b *beacon) share() *beacon {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.users++
	}
	return b
}

// release ends it with its last session.
func (b *beacon) release() {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.users--
	last := b.users == 0
	if last {
		for c := range b.conns {
			_ = c.Close()
		}
	}
	b.mu.Unlock()
	if last {
		_ = b.listener.Close()
		b.tasks.Wait()
	}
}

func (b *beacon) accept() {
	for n := 0; ; n++ {
		c, err := b.listener.Accept()
		if err != nil {
			b.mu.Lock()
			over := b.users == 0
			b.mu.Unlock()
			if over || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(backoff.Delay(n, time.Millisecond, time.Second, 0)) // too many open files
			continue
		}
		n = 0
		b.mu.Lock()
		if b.users == 0 || len(b.conns) >= maxWatchers {
			_ = c.Close()
		} else {
			b.conns[c] = true
			b.tasks.Go(func() { b.keep(c) })
		}
		b.mu.Unlock()
	}
}

// keep keeps a connection until the other side, or the beacon, ends it. Nothing is said
// on it.
func (b *beacon) keep(c net.Conn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

// announce tells where the process listens, by a key under a lease that is new.
func (s *Session) announce(l *lease.Lease) {
	if s.beacon == nil {
		return
	}
	s.tasks.Go(func() {
		err := s.insist(l.Context(), func(ctx context.Context) error {
			// Once: what arrives late, when something else was said, says nothing more.
			_, err := s.replaceOnce(ctx, l.ID(), 0, s.beacon.record)
			return err
		})
		if err != nil && l.Err() == nil {
			s.log.Error("crash detection is off: cannot tell where to find this process", zap.Error(err))
		}
	})
}

// alive reads what stands under a lease; at is its revision, 0 for nothing.
func (s *Session) alive(ctx context.Context, id clientv3.LeaseID) (r aliveRecord, at int64, err error) {
	err = s.insist(ctx, func(ctx context.Context) error {
		resp, err := s.kv.Get(ctx, aliveKey(id))
		if err != nil || len(resp.Kvs) == 0 {
			r, at = aliveRecord{}, 0
			return err
		}
		at = resp.Kvs[0].ModRevision
		r = aliveRecord{}
		if json.Unmarshal(resp.Kvs[0].Value, &r) != nil {
			r = aliveRecord{} // not ours: nothing is told by it
		}
		return nil
	})
	return r, at, err
}

// replaceAlive writes another record, if it is still that of a revision.
func (s *Session) replaceAlive(ctx context.Context, id clientv3.LeaseID, at int64, r aliveRecord) (done bool, err error) {
	err = s.insist(ctx, func(ctx context.Context) (err error) {
		done, err = s.replaceOnce(ctx, id, at, r)
		return err
	})
	return done, err
}

func (s *Session) replaceOnce(ctx context.Context, id clientv3.LeaseID, at int64, r aliveRecord) (done bool, err error) {
	key := aliveKey(id)
	resp, err := s.kv.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", at)).
		Then(clientv3.OpPut(key, r.encode(), clientv3.WithLease(id))).
		Commit()
	if err == nil && resp.Succeeded && !r.Condemned {
		s.announced.Store(resp.Header.Revision)
	}
	return err == nil && resp.Succeeded, err
}

// tellIfCondemned tells, when the lease was revoked, that a candidate did it which took this
// process for dead. The record that says so has gone with the lease, and is looked for among
// the changes after a revision, at which this process wrote the record.
func (s *Session) tellIfCondemned(id clientv3.LeaseID, written int64) {
	ctx, cancel := context.WithTimeout(s.ctx, tryTimeout)
	defer cancel()
	s.queues.Queue(aliveKey(id)).Changes(ctx, aliveKey(id), written+1, func(ev *clientv3.Event) (more bool) {
		var r aliveRecord
		switch {
		case ev.Type == clientv3.EventTypeDelete:
			return false // by an administrator
		case json.Unmarshal(ev.Kv.Value, &r) == nil && r.Condemned:
			s.log.Warn("a candidate took this process for dead, and had its lease revoked: "+
				"connections to the address of crash detection are refused on the way from there",
				zap.String("lease", hex(id)), zap.String("address", r.Address), zap.String("by", r.By))
			return false
		}
		return true
	})
}

// hush says, before the session is left to a successor, that nobody shall take the
// silence of this process for a crash.
func (s *Session) hush(ctx context.Context, id clientv3.LeaseID) error {
	if s.beacon == nil || id == clientv3.NoLease {
		return nil
	}
	return s.disown(ctx, id, aliveRecord{})
}

// speak takes hush back.
func (s *Session) speak() {
	id := s.Lease()
	if s.beacon == nil || id == clientv3.NoLease {
		return
	}
	s.spawn(func() {
		if err := s.disown(s.ctx, id, s.beacon.record); err != nil && s.ctx.Err() == nil {
			s.log.Warn("crash detection is off for the present lease", zap.Error(err))
		}
	})
}

// errCondemned is that of a lease that a candidate has condemned, and is to be revoked.
var errCondemned = fmt.Errorf("%w: it was taken for that of a dead process", ErrLeaseNotFound)

// disown says for a lease that is to be taken over, or was, that nothing can be told of
// its process by an address any more; with own it tells ours. It fails with
// ErrLeaseNotFound when a candidate has condemned the lease: of the two who meant to have
// it, etcd has heard that one first.
func (s *Session) disown(ctx context.Context, id clientv3.LeaseID, own aliveRecord) error {
	for tried := false; ; tried = true {
		r, at, err := s.alive(ctx, id)
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied) && s.beacon == nil:
			return nil // whoever had the lease had not got it either
		case err != nil:
			return err
		case r.Condemned:
			return errCondemned
		case at == 0 && s.beacon == nil, at != 0 && r == own && (tried || own.Address == ""):
			// Nothing was said, nor will be; or this was. It is said again where the former process
			// said the same, as one in the same container: it may be judged by that at this moment.
			return nil
		}
		done, err := s.replaceAlive(ctx, id, at, own)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return ErrLeaseNotFound
		}
		if err != nil || done {
			return err
		}
	}
}
