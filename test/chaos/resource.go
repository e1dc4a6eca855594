package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
)

// resource is what the locks protect. It refuses a write with a token smaller than one that it has
// seen under that name. Holders that share a lock, such as readers, have no order among themselves.
// A write of theirs is refused only after one of an exclusive holder. The faults between the clients
// and etcd do not affect the way to the resource.
type resource struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	all     map[string]int64 // the largest token
	sole    map[string]int64 // the largest of exclusive holders
	refused map[string]int
	conns   map[net.Conn]bool
}

func newResource() (*resource, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &resource{listener: l, all: map[string]int64{}, sole: map[string]int64{}, refused: map[string]int{}, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	return r, nil
}

func (r *resource) addr() string { return r.listener.Addr().String() }

func (r *resource) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns[conn] = true
		r.mu.Unlock()
		r.wg.Go(func() {
			defer r.forget(conn)
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := fmt.Fprintln(conn, r.write(lines.Text())); err != nil {
					return
				}
			}
		})
	}
}

func (r *resource) forget(conn net.Conn) {
	conn.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}

// Answers to a write.
const (
	accepted = "accepted"
	refused  = "refused"
)

// write takes a line: the name, the token, and whether the lock is had alone.
func (r *resource) write(line string) string {
	var name string
	var token int64
	var sole bool
	if _, err := fmt.Sscan(line, &name, &token, &sole); err != nil {
		return "malformed: " + line
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if token < r.sole[name] || sole && token < r.all[name] {
		r.refused[name]++
		return refused
	}
	r.all[name] = max(r.all[name], token)
	if sole {
		r.sole[name] = token
	}
	return accepted
}

// refusals is how many writes under the name were refused.
func (r *resource) refusals(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused[name]
}

func (r *resource) close() {
	r.listener.Close()
	r.mu.Lock()
	for c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// writer is a client's way to the resource.
type writer struct {
	mu    sync.Mutex
	conn  net.Conn
	lines *bufio.Reader
}

func newWriter(addr string) (*writer, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &writer{conn: conn, lines: bufio.NewReader(conn)}, nil
}

func (w *writer) write(name string, token int64, sole bool) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := fmt.Fprintf(w.conn, "%s %d %t\n", name, token, sole); err != nil {
		return err.Error()
	}
	line, err := w.lines.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}
