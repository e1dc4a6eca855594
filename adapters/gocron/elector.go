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

// ErrNotLeader is returned by [Elector.IsLeader] when another process leads, or none.
var ErrNotLeader = errors.New("not the leader")

// Elector is a [gocron.Elector]: the process that leads runs all jobs.
type Elector struct {
	stop context.CancelFunc
	done chan struct{} // closed when the campaign has ended

	mu   sync.Mutex
	term *etcdlock.Term // nil while this process does not lead; guarded by mu
	err  error          // why term is nil; guarded by mu
}

var _ gocron.Elector = (*Elector)(nil)

// NewElector starts to campaign in the election of that name, and campaigns again after every loss.
// The campaign ends with ctx, with the session, or with Close. Observers of the election see value,
// such as the host's name. NewElector does not block.
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
		// etcd refuses the campaign, for example because of a missing permission. The next try may succeed.
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

// IsLeader returns nil while this process leads. It makes no request, and compares the clock with the
// deadline of the term, so that the result is right even if the process was just resumed. Otherwise
// the error matches [ErrNotLeader]. It has the reason if etcd refuses the campaign or the session has
// ended.
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

// Term returns the term of this process, or nil while another process leads. Jobs use its context,
// which ends with the term, and send its token with their writes.
func (e *Elector) Term() *etcdlock.Term {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.term
}

// Close ends the campaign and resigns, so that another process can lead at once. Shut down the
// scheduler first, because running jobs would overlap with the jobs of the next leader. Close blocks
// until etcd has confirmed, or ctx ends. If ctx has already ended, it blocks for up to a second. After
// that the resignation continues in the background.
func (e *Elector) Close(ctx context.Context) error {
	e.stop()
	ended := ctx.Done()
	if ctx.Err() != nil {
		// A process that shuts down often calls Close with a context that has ended, and exits right
		// afterwards.
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
