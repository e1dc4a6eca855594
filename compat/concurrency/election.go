package concurrency

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/etcdkv"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Election lets one session at a time lead, of all that campaign on its prefix. The candidate is the
// session, so a leadership through one Election counts for all Elections of the session.
type Election struct {
	session *Session
	name    string
	inner   *etcdlock.Election

	// Guarded by mu.
	mu      sync.Mutex
	term    *etcdlock.Term // nil without a leadership, or after ResumeElection
	resumed bool
	key     string
	rev     int64
	written int64 // revision of the last known write to the key of a resumed leadership
	hdr     *pb.ResponseHeader
}

// NewElection creates a handle of an election. For the prefix see [NewMutex].
func NewElection(s *Session, pfx string) *Election {
	return &Election{session: s, name: pfx, inner: etcdlock.NewElection(s.inner, pfx)}
}

// ResumeElection is NewElection with an existing leadership of an orphaned session, if s has taken
// over its lease with [WithLease]. pfx is the prefix of NewElection. etcd's package requires a slash at
// its end here, which is accepted too. No request is made. Proclaim and Resign return an error if the
// leadership has ended.
func ResumeElection(s *Session, pfx string, leaderKey string, leaderRev int64) *Election {
	if i := strings.LastIndexByte(leaderKey, '/'); i > 0 && strings.HasPrefix(leaderKey, pfx) {
		pfx = leaderKey[:i] // the name is the part before the last slash
	}
	e := NewElection(s, pfx)
	e.resumed, e.key, e.rev = true, leaderKey, leaderRev
	return e
}

// Campaign waits in the queue until the session leads, with a value that observers see. It blocks
// until then, or until ctx ends. If the session ends, the error matches [ErrElectionNotLeader] and the
// reason. It keeps its place over compactions and lost watches. After an error it leaves nothing in
// etcd.
//
// If the session already leads, or begins to lead through another Election, Campaign proclaims the
// value and returns, as in etcd's package.
func (e *Election) Campaign(ctx context.Context, val string) error {
	s := e.session
	wait, done := s.within(ctx)
	defer done()
	for {
		term, joined, err := join(wait, &s.terms, e.name, func(ctx context.Context) (*etcdlock.Term, error) {
			return e.inner.Campaign(ctx, val)
		})
		if err == nil && joined && term.Value() != val {
			err = term.Proclaim(wait, val)
			if errors.Is(err, etcdlock.ErrReleased) {
				continue // the leadership was resigned meanwhile
			}
		}
		switch {
		case err == nil && s.ownsHolds():
			e.lead(term)
			return nil
		case err == nil: // see Mutex.acquire
			return fmt.Errorf("%w: %w", ErrElectionNotLeader, errLost)
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrElectionNotLeader, context.Cause(s.ctx))
		case errors.Is(err, etcdlock.ErrLost):
			return fmt.Errorf("%w: %w", ErrElectionNotLeader, err)
		default:
			return err
		}
	}
}

func (e *Election) lead(term *etcdlock.Term) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term, e.resumed = term, false
	e.key, e.rev = term.Key(), term.CreateRevision()
	e.hdr = &pb.ResponseHeader{Revision: e.rev}
}

// leadership returns the term of this process, or the key of a resumed leadership. ok is false if there
// is neither.
func (e *Election) leadership() (term *etcdlock.Term, key string, rev int64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.term, e.key, e.rev, e.term != nil || e.resumed
}

// forget drops the leadership. Rev stays, as in etcd's package.
func (e *Election) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term, e.resumed, e.key = nil, false, ""
}

// Proclaim changes the value of the leader without another election. It blocks until etcd has confirmed
// the write, or ctx ends. After [ErrElectionNotLeader] the leadership has ended, and nothing was
// written.
func (e *Election) Proclaim(ctx context.Context, val string) error {
	term, key, rev, ok := e.leadership()
	if !ok {
		return ErrElectionNotLeader
	}
	if term == nil {
		return e.proclaimResumed(ctx, key, rev, val)
	}
	err := term.Proclaim(ctx, val)
	if term.Err() != nil && err != nil {
		return ErrElectionNotLeader
	}
	return err
}

// proclaimResumed writes the value of a key that has no Term in this process. Each try is guarded by
// the last known write, so that a try that arrives late does not undo a later Proclaim.
func (e *Election) proclaimResumed(ctx context.Context, key string, rev int64, val string) error {
	s := e.session
	if s.ctx.Err() != nil {
		return ErrElectionNotLeader
	}
	e.mu.Lock()
	last := e.written
	e.mu.Unlock()
	tried := false
	within, done := s.within(ctx)
	defer done()
	_, err := insist(within, s.client, func(ctx context.Context) error {
		for {
			resp, err := s.client.Txn(ctx).
				If(v3.Compare(v3.CreateRevision(key), "=", rev), v3.Compare(v3.ModRevision(key), "=", last)).
				Then(v3.OpPut(key, val, v3.WithLease(s.id))).Else(v3.OpGet(key)).Commit()
			if err != nil {
				tried = true
				return err
			}
			if resp.Succeeded {
				last = resp.Header.Revision
				return nil
			}
			found := resp.Responses[0].GetResponseRange().Kvs
			if len(found) == 0 || found[0].CreateRevision != rev {
				return ErrElectionNotLeader
			}
			last = found[0].ModRevision
			if tried && string(found[0].Value) == val {
				return nil // an earlier try succeeded, and its answer was lost
			}
		}
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case s.ctx.Err() != nil:
		return ErrElectionNotLeader
	default:
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.written, e.hdr = last, &pb.ResponseHeader{Revision: last}
	return nil
}

// Resign ends the leadership, so that the next candidate can lead. It blocks like [Mutex.Unlock], and
// does the same if etcd does not answer. It returns nil without a leadership, and after Close of the
// session, which resigns.
//
// If the leadership was lost before, the error matches [ErrElectionNotLeader] and the reason, because
// another session may already lead. etcd's package then returns nil.
func (e *Election) Resign(ctx context.Context) error {
	term, key, rev, ok := e.leadership()
	if !ok {
		return nil
	}
	s := e.session
	if t, own := live(&s.terms, e.name); term == nil && own && t.Key() == key {
		term = t // the resumed leadership is that of this session
	}
	if term == nil {
		return e.resignResumed(ctx, key, rev)
	}
	err := term.Resign(ctx)
	s.terms.drop(e.name, term) // the term has ended here, confirmed or not
	switch {
	case errors.Is(err, etcdlock.ErrReleased):
		// An unanswered Resign, or a Resign of another Election, has ended it.
		if err = s.deleteKey(ctx, term.Guard(), term.Key()); err != nil {
			return err
		}
	case closedByOwner(err):
		err = nil
	case errors.Is(err, etcdlock.ErrLost):
		err = fmt.Errorf("%w: %w", ErrElectionNotLeader, err)
	case err != nil:
		return err // it matches etcdlock.ErrUnconfirmed
	}
	e.forget()
	return err
}

func (e *Election) resignResumed(ctx context.Context, key string, rev int64) error {
	switch s := e.session; {
	case s.ctx.Err() == nil:
	case closedByOwner(context.Cause(s.ctx)):
		e.forget()
		return nil
	default: // the key may be a successor's
		e.forget()
		return ErrElectionNotLeader
	}
	client := e.session.client
	var resp *v3.TxnResponse
	unanswered, err := insist(ctx, client, func(ctx context.Context) (err error) {
		resp, err = client.Txn(ctx).If(v3.Compare(v3.CreateRevision(key), "=", rev)).
			Then(v3.OpDelete(key, v3.WithPrevKV())).Commit()
		return err
	})
	if err != nil {
		return err
	}
	e.forget()
	marked := unanswered
	switch {
	case resp.Succeeded:
		was := resp.Responses[0].GetResponseDeleteRange().PrevKvs[0]
		marked = was.ModRevision > was.CreateRevision
	case !unanswered: // else an earlier try may have deleted it
		return ErrElectionNotLeader
	}
	if marked { // a Transfer may have named it, and its mark ends with the term
		ctx, cancel := context.WithTimeout(ctx, etcdkv.FirstBound)
		defer cancel()
		_, _ = client.Delete(ctx, wire.SuccessorKey(e.name, e.session.id)) // after an error it is deleted with the lease
	}
	return nil
}

// Leader returns the leader's key and value, for any leader. It returns [ErrElectionNoLeader] if there
// is no leader.
func (e *Election) Leader(ctx context.Context) (*v3.GetResponse, error) {
	var resp *v3.GetResponse
	_, err := insist(ctx, e.session.client, func(ctx context.Context) (err error) {
		resp, err = e.session.client.Get(ctx, e.name+"/", v3.WithFirstCreate()...)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(resp.Kvs) == 0:
		return nil, ErrElectionNoLeader
	default:
		return resp, nil
	}
}

// Key returns the leader key while this Election leads, as far as this process knows. Otherwise it is
// empty.
func (e *Election) Key() string {
	term, key, _, _ := e.leadership()
	if term != nil && term.Err() != nil {
		return ""
	}
	return key
}

// Rev returns the leader key's creation revision. It grows strictly from leader to leader, also in a
// fleet that uses etcd's package too, so it can be a fencing token.
func (e *Election) Rev() int64 {
	_, _, rev, _ := e.leadership()
	return rev
}

// Header has the revision of the last successful campaign, which is Rev. The other fields of the header
// are not set. Header returns nil before the first campaign.
//
// In etcd's package the revision grows with each Proclaim, so it may be larger than the revision of
// the next leader, which campaigned before.
func (e *Election) Header() *pb.ResponseHeader {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hdr
}

// Term returns etcdlock's handle of the leadership. Its context ends when the leadership is lost. It
// is nil without a leadership and after ResumeElection. End the leadership with Resign. etcd's package
// has no Term.
func (e *Election) Term() *etcdlock.Term {
	term, _, _, _ := e.leadership()
	return term
}
