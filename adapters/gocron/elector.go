package gocronlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/etcdlock/etcdlock"
)

// ErrNotLeader is returned by [Elector.IsLeader] when another process leads, or nobody as
// yet.
var ErrNotLeader = errors.New("not the leader")

// Elector is a [gocron.Elector]: the process that leads runs all jobs.
type Elector struct {
	stop context.CancelFunc
	done chan struct{} // closed when the campaign has ended

	mu   sync.Mutex
	term *etcdlock.Term // guarded by mu, as is
	err  error          // why there is none
}

var _ gocron.Elector = (*Elector)(nil)

// NewElector campaigns in the election of that name until ctx or the session ends, or
// Close is called, and again after every loss. value is what observers of the election
// see, such as the host's name. It does not wait for anything.
func NewElector(ctx context.Context, session *etcdlock.Session, name, value string) *Elector {
	ctx, cancel := context.WithCancel(ctx)
	e := &Elector{stop: cancel, done: make(chan struct{}), err: ErrNotLeader}
	go e.run(ctx, session, etcdlock.NewElection(session, name), value)
	return e
}

func (e *Elector) run(ctx context.Context, session *etcdlock.Session, election *etcdlock.Election, value string) {
	defer close(e.done)
	for {
		err := election.Run(ctx, value, func(ctx context.Context, term *etcdlock.Term) error {
			e.set(term, nil)
			<-ctx.Done()
			e.set(nil, ErrNotLeader)
			return nil
		})
		e.set(nil, fmt.Errorf("%w: %w", ErrNotLeader, err))
		if ctx.Err() != nil || errors.Is(err, etcdlock.ErrSessionClosed) {
			return
		}
		// etcd refuses the campaign, as for want of permission. It may be put right.
		select {
		case <-time.After(session.TTL()):
		case <-ctx.Done():
		}
	}
}

func (e *Elector) set(term *etcdlock.Term, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term, e.err = term, err
}

// IsLeader is nil while this process leads. It asks nobody: it looks at the term's
// deadline itself, so that it is right also when the process has just woken up. Otherwise
// the error matches [ErrNotLeader], and tells why if etcd refuses the campaign or the
// session has ended.
func (e *Elector) IsLeader(context.Context) error {
	e.mu.Lock()
	term, err := e.term, e.err
	e.mu.Unlock()
	if term == nil {
		return err
	}
	if err := term.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return nil
}

// Term is the leadership of this process, for the jobs: its context ends with it, and its
// token can be sent along with what they write. Nil while it does not lead.
func (e *Elector) Term() *etcdlock.Term {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.term
}

// Close ends the campaign and resigns, so that another process takes over at once. Shut the
// scheduler down first: jobs that still run would overlap with the next leader's. It
// blocks until etcd has confirmed, or ctx ends, but for up to a second if ctx has ended
// already; the rest goes on in the background then.
func (e *Elector) Close(ctx context.Context) error {
	e.stop()
	ended := ctx.Done()
	if ctx.Err() != nil {
		// A process that is told to stop often closes under a context that has ended, and exits
		// right afterwards.
		last, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		ended = last.Done()
	}
	select {
	case <-e.done:
		return nil
	case <-ended:
		return ctx.Err()
	}
}
