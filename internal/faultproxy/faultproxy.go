// Package faultproxy is a TCP proxy that stands between one etcd client and its
// members and behaves like a bad network: in each direction by itself it can
// hold bytes back, deliver them late, or cut connections.
//
// Held bytes are not lost, because TCP does not lose them either: when a
// partition heals, the kernel resends what was not acknowledged, and an answer
// arrives long after its caller gave up. Drop is the other way in which a
// partition can end.
package faultproxy

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Direction is the way that bytes take through the proxy.
type Direction int

// The two directions. A cut of ToServer loses requests, a cut of ToClient loses
// the answers to requests that took effect.
const (
	ToServer Direction = iota
	ToClient
)

// Proxy forwards one TCP listener per target. All of its methods are safe for
// concurrent use.
type Proxy struct {
	listeners []net.Listener
	wg        sync.WaitGroup

	mu      sync.Mutex // guards everything below; nothing slow happens under it
	changed chan struct{}
	faults  [2]fault
	refuse  bool
	closed  bool
	links   map[*link]struct{}
}

type fault struct {
	held  bool
	delay time.Duration
}

// New listens on a free port of 127.0.0.1 for every target. A target is
// "host:port", or the URL of a unix socket as the integration clusters use it,
// "unix://path".
func New(targets ...string) (*Proxy, error) {
	p := &Proxy{changed: make(chan struct{}), links: make(map[*link]struct{})}
	for _, target := range targets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("faultproxy: %w", err)
		}
		p.between(l, func() (net.Conn, error) { return dial(target) })
	}
	return p, nil
}

// Between accepts the connections of a listener, and forwards each to a connection that dial opens.
// Both may be in memory.
func Between(l net.Listener, dial func() (net.Conn, error)) *Proxy {
	p := &Proxy{changed: make(chan struct{}), links: make(map[*link]struct{})}
	p.between(l, dial)
	return p
}

func (p *Proxy) between(l net.Listener, dial func() (net.Conn, error)) {
	p.listeners = append(p.listeners, l)
	p.wg.Add(1)
	go p.accept(l, dial)
}

// Endpoints are the addresses to give to the client, one per target.
func (p *Proxy) Endpoints() []string {
	var out []string
	for _, l := range p.listeners {
		out = append(out, l.Addr().String())
	}
	return out
}

// Hold keeps back all bytes of the given directions, of both when none is
// given, until Resume or Drop.
func (p *Proxy) Hold(directions ...Direction) {
	if len(directions) == 0 {
		directions = []Direction{ToServer, ToClient}
	}
	p.change(func() {
		for _, d := range directions {
			p.faults[d].held = true
		}
	})
}

// Delay makes all bytes of one direction arrive that much later, in order.
func (p *Proxy) Delay(d Direction, by time.Duration) {
	p.change(func() { p.faults[d].delay = by })
}

// Release ends the faults of one direction, and delivers what was held back in
// it.
func (p *Proxy) Release(d Direction) {
	p.change(func() { p.faults[d] = fault{} })
}

// Resume ends every fault and delivers what was held back.
func (p *Proxy) Resume() {
	p.change(func() {
		p.faults = [2]fault{}
		p.refuse = false
	})
}

// Refuse closes new connections at once, until Resume. With Drop it makes the
// servers unreachable, as when they do not run.
func (p *Proxy) Refuse() {
	p.change(func() { p.refuse = true })
}

// Drop closes the open connections; what was held back in them is lost.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Close ends the proxy and waits for its goroutines.
func (p *Proxy) Close() {
	p.change(func() { p.closed = true })
	for _, l := range p.listeners {
		l.Close()
	}
	p.Drop()
	p.wg.Wait()
}

func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept(l net.Listener, dial func() (net.Conn, error)) {
	defer p.wg.Done()
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		if refuse {
			client.Close()
			continue
		}
		server, err := dial()
		if err != nil {
			client.Close()
			continue
		}
		p.serve(&link{client: client, server: server, done: make(chan struct{})})
	}
}

func dial(target string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(target, "unix://"); ok {
		return net.Dial("unix", path)
	}
	return net.Dial("tcp", target)
}

// serve forwards one connection. If the proxy closes or refuses meanwhile, the link is closed
// here: Close or Drop may have looked at the links while the server was dialled.
func (p *Proxy) serve(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		l.close()
		return
	}
	p.links[l] = struct{}{}
	p.wg.Add(2)
	go p.pump(l, l.server, l.client, ToServer)
	go p.pump(l, l.client, l.server, ToClient)
}

// pump moves bytes from src to dst as the faults of the direction allow.
func (p *Proxy) pump(l *link, dst, src net.Conn, d Direction) {
	chunks := newChunks()
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		chunks.fill(src)
	}()
	defer p.wg.Done()
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	for {
		c, ok := chunks.next()
		if !ok || !p.hold(l, c.at, d) {
			return
		}
		if _, err := dst.Write(c.data); err != nil {
			return
		}
	}
}

// hold returns when bytes that came in at the given time may be sent, or false
// when the link is gone.
func (p *Proxy) hold(l *link, at time.Time, d Direction) bool {
	for {
		p.mu.Lock()
		f, changed := p.faults[d], p.changed
		p.mu.Unlock()
		var due <-chan time.Time // nil: only a change lets the bytes continue
		if !f.held {
			wait := time.Until(at.Add(f.delay))
			if wait <= 0 {
				return true
			}
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-changed:
		case <-l.done:
			return false
		}
	}
}

// link is one connection from the client to a server.
type link struct {
	client, server net.Conn
	once           sync.Once
	done           chan struct{}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		l.client.Close()
		l.server.Close()
	})
}
