package etcdlock

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// fakeNet is a network in virtual time.
type fakeNet struct {
	mu        sync.Mutex
	listeners map[string]*fakeListener
	silent    map[string]bool                    // does not answer
	lasts     map[string]func(int) time.Duration // for how long the connections to an address last, by their number
	dialed    int
}

type fakeListener struct {
	net     *fakeNet
	address *net.TCPAddr
	conns   chan net.Conn
	closed  chan struct{}
	mu      sync.Mutex
	all     []net.Conn
}

func newFakeNet() *fakeNet {
	return &fakeNet{listeners: map[string]*fakeListener{}, silent: map[string]bool{}, lasts: map[string]func(int) time.Duration{}}
}

func (n *fakeNet) Listen(address string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if n.listeners[a.String()] != nil {
		return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &fakeListener{net: n, address: a, conns: make(chan net.Conn, 10), closed: make(chan struct{})}
	n.listeners[a.String()] = l
	return l, nil
}

func (n *fakeNet) Dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l, silent, lasts := n.listeners[address], n.silent[address], n.lasts[address]
	n.dialed++
	number := n.dialed
	n.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	here, there := net.Pipe()
	if lasts != nil {
		time.AfterFunc(lasts(number), func() { _ = there.Close() })
		return here, nil
	}
	l.mu.Lock()
	l.all = append(l.all, there)
	l.mu.Unlock()
	l.conns <- there
	return here, nil
}

func (n *fakeNet) setSilent(address string, silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent[address] = silent
}

func (n *fakeNet) listens(address string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listeners[address] != nil
}

// kill is what the kernel does when a process dies.
func (n *fakeNet) kill(address string) {
	n.mu.Lock()
	l := n.listeners[address]
	delete(n.listeners, address)
	n.mu.Unlock()
	l.breakAll()
}

// breakConns breaks the connections, and no more.
func (n *fakeNet) breakConns(address string) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	l.breakAll()
}

func (l *fakeListener) breakAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.all {
		_ = c.Close()
	}
	l.all = nil
}

func (l *fakeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *fakeListener) Close() error {
	l.net.mu.Lock()
	if l.net.listeners[l.address.String()] == l {
		delete(l.net.listeners, l.address.String())
	}
	l.net.mu.Unlock()
	close(l.closed)
	return nil
}

func (l *fakeListener) Addr() net.Addr { return l.address }
