package simetcd

import (
	"cmp"
	"slices"
	"time"
)

// A network lies between one client and the server. It is guarded by the server's mu.
type network struct {
	sched *schedule
	seed  uint64
	salt  uint64 // of the link

	min, max       time.Duration
	cutReq, cutRep bool
	lost           []*message // what met a cut, still to be given up (Heal) or delivered (Resume)
	messages       uint64     // in all
	pushed         uint64     // those that answer no request
}

// A message is something under way in one direction.
type message struct {
	toServer bool
	seq      uint64 // the order of sending, for Resume
	kind     Kind   // what its latency is drawn from, with n; 0 answers no request
	n        int
	delay    time.Duration
	fifo     *int64      // when the last message of its stream arrives: none overtakes another
	arrive   func()      // what happens on arrival
	broken   func(error) // what happens to the sender or receiver when it will never arrive
}

// transmit sends a message. A cut stops what is sent while it lasts and what would arrive while it lasts.
func (n *network) transmit(m *message) {
	if m.seq == 0 {
		n.messages++
		m.seq = n.messages
	}
	if n.cut(m) {
		n.lost = append(n.lost, m)
		return
	}
	at := n.sched.now() + int64(n.latency(m)+m.delay)
	if m.fifo != nil {
		at = max(at, *m.fifo+1)
	}
	ev := n.sched.at(at, func() {
		if n.cut(m) {
			n.lost = append(n.lost, m)
			return
		}
		m.arrive()
	})
	if m.fifo != nil {
		*m.fifo = ev.at
	}
}

func (n *network) cut(m *message) bool {
	if m.toServer {
		return n.cutReq
	}
	return n.cutRep
}

// latency draws the latency of a message: it depends on nothing but the seed, the client, and which message it is.
func (n *network) latency(m *message) time.Duration {
	nth := uint64(m.n)
	if m.kind == 0 {
		n.pushed++
		nth = n.pushed
	}
	way := uint64(0)
	if m.toServer {
		way = 1
	}
	h := mix(n.seed, n.salt, uint64(m.kind)<<1|way, nth)
	d := n.min
	if n.max > n.min {
		d += time.Duration(h>>10) % (n.max - n.min)
	}
	return d + time.Duration(h%997)
}

// mend ends the cuts and returns the stopped messages in the order of sending.
func (n *network) mend() []*message {
	lost := n.lost
	n.cutReq, n.cutRep, n.lost = false, false, nil
	slices.SortFunc(lost, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
	return lost
}
