package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lease"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// A leader that honours requests to resign announces it beside the queue, by its entry. So a request to
// a leader that would never heed it is refused before anything is written. The announcement stands for
// as long as the leader listens, and has the lease of the term.

// announcement is one as it stands in etcd. Like a successor key, it has only the end of the leader's
// key.
type announcement struct {
	Tail           string `json:"key"`
	CreateRevision int64  `json:"rev"`
}

// announcements is the prefix of the announcements beside the queue of a name.
func announcements(name string) string { return wire.Side(name, "resigns/") }

// errWithdrawn ends Honour when the announcement is gone.
var errWithdrawn = errors.New("another client has deleted the announcement")

// Honour announces that the holder of an entry honours requests, and reports the requests that concern
// the entry until ctx ends, which is at the end of the lease at the latest, until the announcement is
// deleted by another client, or until etcd refuses. tell returns false if the request is to be reported
// again, as it cannot be honoured yet. first is true the first time.
func (s *Requests) Honour(ctx context.Context, ls *lease.Lease, e *queue.Entry, tell func(r Request, first bool) (done bool)) error {
	name, _ := wire.NameOf(e.Key)
	announced, withdraw := context.WithCancelCause(ctx)
	defer withdraw(nil)
	err := s.post(announced, nil, ls, announcements(name), announcement{wire.Tail(e.Key), e.CreateRevision}, func(err error) {
		if err != nil {
			withdraw(err) // no process would ask a leader that announces nothing
		}
	})
	if err != nil {
		return err
	}
	h, stood := newHearing(name, e, tell), false
	wake := make(chan struct{}, 1)
	alarm := time.AfterFunc(math.MaxInt64, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer alarm.Stop()
	return s.cfg.Queues.Queue(name).FollowBeside(announced, wire.Side(name, ""), wake, func(all []*mvccpb.KeyValue) error {
		stands := slices.ContainsFunc(all, func(kv *mvccpb.KeyValue) bool {
			return strings.HasPrefix(string(kv.Key), announcements(name)) && announces(kv, e.Key, e.CreateRevision)
		})
		if stood && !stands {
			return errWithdrawn
		}
		stood = stands
		if again := h.hear(all); again > 0 {
			alarm.Reset(again)
		}
		return nil
	})
}

// announces reports whether the value of an announcement is of an entry.
func announces(kv *mvccpb.KeyValue, key string, createRevision int64) bool {
	var a announcement
	return json.Unmarshal(kv.Value, &a) == nil && a.Tail == wire.Tail(key) && a.CreateRevision == createRevision
}

// AskLeader asks the leader of r.Name to resign, in favour of r.Candidate if there is one. It blocks
// until the leader has, or ctx or the lease ends.
//
// The error is ErrNoCandidate if the leader stands and the candidate does not wait, or if the leader has
// resigned and another candidate is next. It is ErrNotHonoured if the leader does not listen any more.
func (s *Requests) AskLeader(ctx context.Context, ls *lease.Lease, r Request) error {
	q := s.cfg.Queues.Queue(r.Name)
	under, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ls.Context(), func() { cancel(ls.Err()) })()
	leader, to, err := s.honouring(under, q, r)
	if err == nil {
		err = s.request(ctx, under, cancel, ls, r, leader)
	}
	if err == nil {
		err = s.awaitResignation(under, q, ls, r, leader, to)
	}
	if err == nil && r.Candidate != "" {
		err = r.isNext(under, q, ls, leader)
	}
	if err != nil && under.Err() != nil {
		return ended(ctx, under)
	}
	return err
}

// awaitResignation blocks until the leader has gone. It fails if the candidate that is named has gone
// before, or if the leader will not resign: the process that continues with its term may not listen.
func (s *Requests) awaitResignation(ctx context.Context, q *queue.Queue, ls *lease.Lease, r Request, leader, to *mvccpb.KeyValue) error {
	looked, deaf := time.Now(), false // deaf: the last look has shown no announcement
	return q.AwaitUntil(ctx, ls.ID(), func(all []*mvccpb.KeyValue) (bool, error) {
		if len(all) == 0 || all[0].CreateRevision != leader.CreateRevision {
			return true, nil
		}
		waiting, err := r.mayFollow(all)
		if err != nil {
			return false, err
		}
		if r.Candidate != "" && !slices.ContainsFunc(waiting, func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision == to.CreateRevision }) {
			return false, fmt.Errorf("the candidate has left the queue, and is in it again: %w", lockerr.ErrNoCandidate)
		}
		if time.Since(looked) < looksEvery {
			return false, nil
		}
		looked = time.Now()
		announced, err := s.announces(ctx, r.Name, leader)
		if err != nil {
			return false, err
		}
		// A leader without a renewed lease does not listen either, and is gone soon.
		if !announced && deaf && lease.Lives(ctx, s.cfg.Leases, clientv3.LeaseID(leader.Lease)) {
			return false, lockerr.ErrNotHonoured
		}
		deaf = !announced
		return false, nil
	})
}

// looksEvery is the time between two looks at the announcement of a leader that was asked. It is not
// longer than the time between two readings of the queue.
const looksEvery = 9 * time.Second

// A leader that has just begun may not have announced yet that it honours requests: its first tries may not
// have been answered, and each has a second or more.
const (
	announcesWithin = 6 * time.Second
	lookAgain       = 100 * time.Millisecond
)

// honouring returns the leader, if it honours requests, and the youngest candidate that may follow.
func (s *Requests) honouring(ctx context.Context, q *queue.Queue, r Request) (leader, to *mvccpb.KeyValue, err error) {
	for began := time.Now(); ; {
		all, _, err := q.List(ctx)
		if err != nil {
			return nil, nil, err
		}
		if len(all) == 0 || wire.Pauses(string(all[0].Key)) {
			return nil, nil, lockerr.ErrNoLeader
		}
		waiting, err := r.mayFollow(all)
		if err != nil {
			return nil, nil, err
		}
		announced, err := s.announces(ctx, r.Name, all[0])
		switch {
		case err != nil:
			return nil, nil, err
		case announced:
			to, err = s.living(ctx, waiting)
			return all[0], to, err
		case time.Since(began) >= announcesWithin:
			return nil, nil, lockerr.ErrNotHonoured
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// announces reports whether a leader announces that it honours requests.
func (s *Requests) announces(ctx context.Context, name string, leader *mvccpb.KeyValue) (bool, error) {
	announced, err := queue.Snapshot(ctx, s.cfg.KV, announcements(name))
	return slices.ContainsFunc(announced, func(kv *mvccpb.KeyValue) bool {
		return announces(kv, string(leader.Key), leader.CreateRevision)
	}), err
}

// living returns the youngest of some candidates with a renewed lease. A process that was killed and
// started again has an older entry too.
func (s *Requests) living(ctx context.Context, waiting []*mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	for _, kv := range slices.Backward(waiting) {
		if lease.Lives(ctx, s.cfg.Leases, clientv3.LeaseID(kv.Lease)) {
			return kv, nil
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("the lease of the candidate is not renewed: %w", lockerr.ErrNoCandidate)
}

// mayFollow returns the candidates that wait behind the leader and may follow it, or an error if there
// are none. all is in order of age.
func (r *Request) mayFollow(all []*mvccpb.KeyValue) (waiting []*mvccpb.KeyValue, err error) {
	paused := slices.IndexFunc(all, func(kv *mvccpb.KeyValue) bool { return wire.Pauses(string(kv.Key)) })
	if paused >= 0 {
		if all = all[:paused]; r.Candidate == "" { // a candidate ahead of the pause leads only if it is named
			return nil, fmt.Errorf("the election is paused: %w", lockerr.ErrNoCandidate)
		}
	}
	for _, kv := range all[1:] {
		if kv.Lease != 0 && (r.Candidate == "" || string(kv.Value) == r.Candidate) {
			waiting = append(waiting, kv)
		}
	}
	switch {
	case waiting != nil:
		return waiting, nil
	case r.Candidate == "":
		return nil, fmt.Errorf("no other candidate waits: %w", lockerr.ErrNoCandidate)
	case string(all[0].Value) == r.Candidate:
		return nil, fmt.Errorf("%w: the leader itself has it", lockerr.ErrNoCandidate)
	default:
		return nil, lockerr.ErrNoCandidate
	}
}

// isNext returns an error unless the candidate of the request led after the leader, or is to lead next.
func (r *Request) isNext(ctx context.Context, q *queue.Queue, ls *lease.Lease, leader *mvccpb.KeyValue) error {
	next, oldest, err := q.Next(ctx, leader)
	switch {
	case err != nil:
		return err
	case next == nil:
		return fmt.Errorf("the leader has resigned, and no candidate waits: %w", lockerr.ErrNoCandidate)
	case wire.Pauses(string(next.Key)):
		return fmt.Errorf("the leader has resigned, and the election is paused: %w", lockerr.ErrNoCandidate)
	case string(next.Value) != r.Candidate:
		return fmt.Errorf("the leader has resigned, and %s leads next: %w", wire.Quote(string(next.Value)), lockerr.ErrNoCandidate)
	case next == oldest:
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, stepsBackWithin)
	defer cancel()
	err = q.AwaitUntil(soon, ls.ID(), func(all []*mvccpb.KeyValue) (bool, error) {
		if len(all) > 0 {
			oldest = all[0]
		}
		return oldest.CreateRevision >= next.CreateRevision || len(all) == 0, nil
	})
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the leader has resigned, and %s is ahead of the candidate: %w", wire.Quote(string(oldest.Value)), lockerr.ErrNoCandidate)
	}
	return err
}

// stepsBackWithin is how long the candidates ahead of a named one have to move to the end of the queue.
// One of another library does not, nor one of a process that has died.
const stepsBackWithin = 3 * time.Second
