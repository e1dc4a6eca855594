package simetcd

import (
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Observers are told of each change, in order.
type observers struct {
	all     []func(rev int64, ev *mvccpb.Event)
	news    []observation // not told yet
	telling bool          // true while a goroutine calls the observers, also for later additions to news
}

type observation struct {
	rev int64
	ev  *mvccpb.Event
}

// OnEvent adds an observer, which is called for each change from now on, MissDelete or not: in order, by one goroutine
// at a time, under no lock, and before any client can know of the change. PrevKv is always set where there was one. An
// observer must neither modify the event nor wait. To the race detector what it writes is ordered before what follows a
// synctest.Wait, a call of the server's methods, or a reply; a Sleep alone orders nothing.
func (s *Server) OnEvent(observe func(rev int64, ev *mvccpb.Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers.add(observe)
}

func (o *observers) add(observe func(int64, *mvccpb.Event)) { o.all = append(o.all, observe) }

// note has changes told when the server's mu is released.
func (o *observers) note(changes []change) {
	if len(o.all) == 0 {
		return
	}
	for i := range changes {
		c := &changes[i]
		ev := c.event()
		ev.PrevKv = copyKV(c.prev)
		o.news = append(o.news, observation{rev: c.rev, ev: ev})
	}
}

// tell releases mu, which guards o, and tells what was noted. The observers are called without a lock, so that they may
// use the server, and in order: only one goroutine calls them at a time, for the others too.
func (o *observers) tell(mu *sync.Mutex) {
	if o.telling {
		mu.Unlock()
		return
	}
	o.telling = true
	for len(o.news) > 0 {
		next := o.news[0]
		o.news = o.news[1:]
		all := o.all
		mu.Unlock()
		for _, f := range all {
			f(next.rev, next.ev)
		}
		mu.Lock()
	}
	o.telling = false
	mu.Unlock()
}
