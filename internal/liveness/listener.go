package liveness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Network opens listeners and connections.
type Network interface {
	Listen(address string) (net.Listener, error)
	Dial(ctx context.Context, address string) (net.Conn, error)
}

// TCP is the real Network.
type TCP struct{}

// Listen listens on a TCP address.
func (TCP) Listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }

// Dial connects to a TCP address.
func (TCP) Dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// Listener is the share that one session has in a listening socket of this process. The socket is
// closed with its last share. A nil Listener has nothing to share or close.
type Listener struct {
	*socket
	close func() // gives up the share, once
}

// Listen opens a socket. host is the name of this machine for readers of the record.
func Listen(network Network, address, host string) (*Listener, error) {
	l, err := network.Listen(address)
	if err != nil {
		return nil, fmt.Errorf("crash detection: %w", err)
	}
	s := &socket{
		network: network, listener: l, scope: loopbackScope(host), conns: map[net.Conn]bool{},
		own: wire.Liveness{Address: l.Addr().String(), Host: host, PID: os.Getpid()},
	}
	if isLoopback(s.own.Address) {
		s.own.Scope = s.scope
	}
	s.tasks.Go(s.accept)
	return s.share(), nil
}

// Share returns a further share, for another session of this process.
func (l *Listener) Share() *Listener {
	if l == nil {
		return nil
	}
	return l.share()
}

// Close gives up the share. Further calls do nothing.
func (l *Listener) Close() {
	if l != nil {
		l.close()
	}
}

// socket accepts connections and keeps them, until the process dies or its sessions have ended.
type socket struct {
	network  Network
	listener net.Listener
	own      wire.Liveness // what is published of this process
	scope    string        // see loopbackScope
	tasks    sync.WaitGroup

	mu     sync.Mutex
	shares int
	conns  map[net.Conn]bool
}

// maxConns is the number of candidates' connections that a socket keeps. It closes further ones at once.
const maxConns = 256

func (s *socket) share() *Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares++
	return &Listener{s, sync.OnceFunc(s.release)}
}

// release gives up a share, and closes the socket with the last one.
func (s *socket) release() {
	s.mu.Lock()
	s.shares--
	last := s.shares == 0
	if last {
		for c := range s.conns {
			_ = c.Close()
		}
	}
	s.mu.Unlock()
	if last {
		_ = s.listener.Close()
		s.tasks.Wait()
	}
}

func (s *socket) accept() {
	for n := 0; ; n++ {
		c, err := s.listener.Accept()
		if err != nil {
			s.mu.Lock()
			over := s.shares == 0
			s.mu.Unlock()
			if over || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(backoff.Delay(n, time.Millisecond, time.Second, 0)) // too many open files
			continue
		}
		n = 0
		s.mu.Lock()
		if s.shares == 0 || len(s.conns) >= maxConns {
			_ = c.Close()
		} else {
			s.conns[c] = true
			s.tasks.Go(func() { s.keep(c) })
		}
		s.mu.Unlock()
	}
}

// keep keeps a connection until the candidate or the socket closes it. Neither side sends anything.
func (s *socket) keep(c net.Conn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// loopbackScope is the same for two processes that reach each other by the loopback. On Linux it
// identifies a network namespace and a boot of the machine. Elsewhere it is the name of the host.
func loopbackScope(host string) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	namespace, nserr := os.Readlink("/proc/self/ns/net")
	if err != nil || nserr != nil {
		return host
	}
	return strings.TrimSpace(string(boot)) + " " + namespace
}
