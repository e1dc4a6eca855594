package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// peer is a client process as the runner sees it.
type peer struct {
	id    string
	slot  int
	group *group
	proc  *procs.Child
	stdin io.WriteCloser
	links []*faultproxy.Proxy // one for each member
	read  chan struct{}       // closed when its last line has been read
}

// hire starts a client. Its way to each member is a proxy of its own.
func (s *scene) hire(g *group, slot int) (*peer, error) {
	g.hired++
	p := &peer{
		id:   fmt.Sprintf("%s-%s-%d.%d", g.library.name, g.kind.name, slot, g.hired),
		slot: slot, group: g, read: make(chan struct{}),
	}
	set := settings{
		Library: g.library.name, Kind: g.kind.name, Shared: g.shared, Own: fmt.Sprintf("%s-own-%d", g.shared, slot),
		TTL: s.ttl, Resource: s.resource.addr(), Impatient: s.nemesis.impatient,
	}
	for i, m := range s.cluster.Members {
		if s.nemesis.single && slot == 0 && i != s.only {
			continue
		}
		link, err := faultproxy.New(hostPort(m.Endpoint))
		if err != nil {
			return nil, err
		}
		p.links = append(p.links, link)
		set.Endpoints = append(set.Endpoints, link.Endpoints()...)
	}
	if err := p.start(s.kids, set, s.book); err != nil {
		p.unlink()
		return nil, err
	}
	g.peers = append(g.peers, p)
	return p, nil
}

func (p *peer) start(kids *procs.Children, set settings, book *book) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env, err := json.Marshal(set)
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+roleClient, clientEnv+"="+string(env))
	cmd.Stderr = os.Stderr
	var out io.ReadCloser
	if p.proc, p.stdin, out, err = kids.Talk(cmd); err != nil {
		return err
	}
	go func() {
		defer close(p.read)
		defer out.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil { // the last line of a killed one may be half
				e.Client = p.id
				book.add(e)
			}
		}
	}()
	return nil
}

func (p *peer) tell(order string) error {
	_, err := io.WriteString(p.stdin, order+"\n")
	return err
}

// kill ends the process as kill -9 does. What it believed, it believed until now.
func (p *peer) kill(b *book) {
	b.add(event{What: wasKilled, Client: p.id, At: now()})
	p.proc.Kill()
	<-p.read
	p.group.drop(p)
	p.unlink()
}

func (p *peer) stop(b *book) error {
	b.add(event{What: wasStopped, Client: p.id, At: now()})
	return p.proc.Signal(syscall.SIGSTOP)
}

func (p *peer) resume(b *book) error {
	b.add(event{What: wasResumed, Client: p.id, At: now()})
	return p.proc.Signal(syscall.SIGCONT)
}

// leave ends the process in order, with its session closed.
func (p *peer) leave(ctx context.Context) error {
	if err := p.tell(quit); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	select {
	case <-p.proc.Gone():
		<-p.read
		return p.proc.Err()
	case <-ctx.Done():
		return fmt.Errorf("%s does not leave: %w", p.id, ctx.Err())
	}
}

func (p *peer) unlink() {
	for _, l := range p.links {
		l.Close()
	}
}

// group are the clients that contend for one name with one library.
type group struct {
	library library
	kind    kind
	shared  string
	peers   []*peer
	hired   int
}

func (g *group) name() string { return g.library.name + "/" + g.kind.name }

func (g *group) drop(p *peer) {
	for i := range g.peers {
		if g.peers[i] == p {
			g.peers = append(g.peers[:i:i], g.peers[i+1:]...)
			return
		}
	}
}

// book is everything that was told, in the order in which it came in.
type book struct {
	mu      sync.Mutex
	events  []event
	changed chan struct{}
}

func newBook() *book { return &book{changed: make(chan struct{})} }

func (b *book) add(e event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
	close(b.changed)
	b.changed = make(chan struct{})
}

// all are the events so far, not to be changed.
func (b *book) all() []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events[:len(b.events):len(b.events)]
}

// first waits for the first event that matches, among those yet to come and those that
// came in since the given time.
func (b *book) first(ctx context.Context, since instant, match func(event) bool) (event, error) {
	for seen := 0; ; {
		b.mu.Lock()
		events, changed := b.events[seen:], b.changed
		b.mu.Unlock()
		for _, e := range events {
			if e.At >= since && match(e) {
				return e, nil
			}
		}
		seen += len(events)
		select {
		case <-changed:
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}
