// Package timeline detects that etcd has other data than before.
//
// An etcd that was restored from a backup, or was started with empty data, answers as if nothing
// had happened, with smaller revisions. The data from then on is called another timeline, a word of
// databases. A revision that was read in one timeline means nothing in another, which may reach this
// revision again with other keys.
//
// The proof is in the header of an answer. The revision of a linearizable answer is at least as
// large as that of every answer that came before its request was sent. A smaller one, or another
// cluster, is another timeline. Answers of a single member (a serializable read, a renewal, the
// creation of a watch) prove nothing, as members may lag, but are a reason to ask. Neither does the
// raft term: a member that has just caught up answers with a smaller one.
//
// If etcd has passed the known revision by the time of its first answer, this answer cannot be told
// from one of the former timeline.
package timeline

import (
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdlock/etcdlock/internal/broadcast"
)

// Tracker is shown the headers of answers, and numbers the timelines. It is safe for concurrent
// use. The zero value knows of the first timeline only.
type Tracker struct {
	// OnChange is called once for each timeline after the first, by the goroutine that received the
	// proof and before the answer is used. It is set before the first request.
	OnChange func(Change)

	mu      sync.Mutex
	known   Mark
	heard   time.Time        // of the last answer, by any member
	term    uint64           // the largest raft term in an answer
	outage  Outage           // the last one
	changed broadcast.Signal // of another timeline
}

// Mark is the state of a tracker when a request was sent.
type Mark struct {
	number   int
	cluster  uint64 // 0 until one is known
	revision int64
}

// Outage is a time without an answer, after which etcd had another raft leader. A new raft leader
// gives every lease its full TTL again, so that a key may stand though its session has given up.
type Outage struct {
	From, Until time.Time // of the last answer before it, and of the first one after it
	Revision    int64     // of the first answer after it
}

// Change tells of another timeline: by which answer, and what was known before.
type Change struct {
	Number                 int
	Revision, LastRevision int64
	Cluster, LastCluster   uint64
}

// Number is the number of the present timeline. It grows.
func (t *Tracker) Number() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known.number
}

// Changed returns a channel that is closed when there is another timeline.
func (t *Tracker) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed.Changed()
}

// Outage is the last outage; the zero value for none.
func (t *Tracker) Outage() Outage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outage
}

// hear notes that a member has answered. Called with mu held.
func (t *Tracker) hear(h *pb.ResponseHeader, another bool) {
	now := time.Now()
	if another || t.term != 0 && h.RaftTerm > t.term {
		t.outage = Outage{t.heard, now, h.Revision}
		t.term = h.RaftTerm
	}
	t.heard, t.term = now, max(t.term, h.RaftTerm)
}

// Ask returns what is known before a request is sent.
func (t *Tracker) Ask() Mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known
}

// Answered takes the answer to a linearizable request that was sent after Ask. It returns false if
// the timeline of the answer is not known, because another request has proved another timeline
// meanwhile.
func (t *Tracker) Answered(m Mark, h *pb.ResponseHeader) bool {
	if h == nil || h.Revision == 0 { // not an answer of etcd, but of a fake
		return true
	}
	t.mu.Lock()
	if m.number != t.known.number {
		t.mu.Unlock()
		return false
	}
	another := !m.before(h)
	t.hear(h, another)
	if another {
		last := t.known
		t.known = Mark{last.number + 1, h.ClusterId, h.Revision}
		t.changed.Broadcast()
		change := Change{
			Number: t.known.number, Revision: h.Revision, LastRevision: last.revision,
			Cluster: h.ClusterId, LastCluster: last.cluster,
		}
		t.mu.Unlock()
		if t.OnChange != nil {
			t.OnChange(change)
		}
		return true
	}
	t.known.cluster = max(t.known.cluster, h.ClusterId) // they are equal, or one is 0
	t.known.revision = max(t.known.revision, h.Revision)
	t.mu.Unlock()
	return true
}

// Doubts reports whether an answer of a single member, to a request that was sent after Ask, may be
// of another timeline. A linearizable request then decides.
func (t *Tracker) Doubts(m Mark, h *pb.ResponseHeader) bool {
	if h == nil || h.Revision == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.number != t.known.number {
		return false
	}
	t.hear(h, false)
	return !m.before(h)
}

// before reports whether an answer can be a later one of the same timeline.
func (m Mark) before(h *pb.ResponseHeader) bool {
	return h.Revision >= m.revision &&
		(h.ClusterId == m.cluster || m.cluster == 0 || h.ClusterId == 0)
}
