package ask

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

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

// Honour announces that the holder of an entry honours requests, and reports the requests that concern
// the entry until ctx ends, which is at the end of the lease at the latest, or etcd refuses.
func (s *Requests) Honour(ctx context.Context, ls *lease.Lease, e *queue.Entry, tell func(Request)) error {
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
	return s.hear(announced, e, tell)
}

// AskLeader asks the leader of r.Name to resign, in favour of r.Candidate if there is one. It blocks
// until the leader has, or ctx or the lease ends.
//
// The error is ErrNoCandidate if the leader stands and the candidate does not wait, or if the leader has
// resigned and another candidate is next.
func (s *Requests) AskLeader(ctx context.Context, ls *lease.Lease, r Request) error {
	q := s.cfg.Queues.Queue(r.Name)
	under, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ls.Context(), func() { cancel(ls.Err()) })()
	leader, err := s.honouring(under, q, r)
	if err == nil {
		err = s.request(ctx, under, cancel, ls, r, leader)
	}
	if err == nil {
		err = q.AwaitUntil(under, ls.ID(), func(all []*mvccpb.KeyValue) (bool, error) {
			if len(all) == 0 || all[0].CreateRevision != leader.CreateRevision {
				return true, nil
			}
			return false, r.mayFollow(all)
		})
	}
	if err == nil && r.Candidate != "" {
		err = r.isNext(under, q)
	}
	if err != nil && under.Err() != nil {
		return ended(ctx, under)
	}
	return err
}

// A leader that has just begun may not have announced yet that it honours requests.
const (
	announcesWithin = 2 * time.Second
	lookAgain       = 100 * time.Millisecond
)

// honouring returns the leader, if it honours requests and there is a candidate that may follow.
func (s *Requests) honouring(ctx context.Context, q *queue.Queue, r Request) (leader *mvccpb.KeyValue, err error) {
	for began := time.Now(); ; {
		all, _, err := q.List(ctx)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 || wire.Pauses(string(all[0].Key)) {
			return nil, lockerr.ErrNoLeader
		}
		if err := r.mayFollow(all); err != nil {
			return nil, err
		}
		announced, err := queue.Snapshot(ctx, s.cfg.KV, announcements(r.Name))
		if err != nil {
			return nil, err
		}
		for _, kv := range announced {
			var a announcement
			if json.Unmarshal(kv.Value, &a) == nil && a.Tail == wire.Tail(string(all[0].Key)) && a.CreateRevision == all[0].CreateRevision {
				return all[0], nil
			}
		}
		if time.Since(began) >= announcesWithin {
			return nil, lockerr.ErrNotHonoured
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// mayFollow returns an error if no candidate waits behind the leader that may follow it. all is in
// order of age.
func (r *Request) mayFollow(all []*mvccpb.KeyValue) error {
	paused := slices.IndexFunc(all, func(kv *mvccpb.KeyValue) bool { return wire.Pauses(string(kv.Key)) })
	if paused >= 0 {
		if all = all[:paused]; r.Candidate == "" { // a candidate ahead of the pause leads only if it is named
			return fmt.Errorf("the election is paused: %w", lockerr.ErrNoCandidate)
		}
	}
	for _, kv := range all[1:] {
		if kv.Lease != 0 && (r.Candidate == "" || string(kv.Value) == r.Candidate) {
			return nil
		}
	}
	switch {
	case r.Candidate == "":
		return fmt.Errorf("no other candidate waits: %w", lockerr.ErrNoCandidate)
	case string(all[0].Value) == r.Candidate:
		return fmt.Errorf("%w: the leader itself has it", lockerr.ErrNoCandidate)
	default:
		return lockerr.ErrNoCandidate
	}
}

// isNext returns an error unless the candidate of the request leads, or is to lead next.
func (r *Request) isNext(ctx context.Context, q *queue.Queue) error {
	next, err := q.Next(ctx)
	switch {
	case err != nil:
		return err
	case next == nil:
		return fmt.Errorf("the leader has resigned, and no candidate waits: %w", lockerr.ErrNoCandidate)
	case wire.Pauses(string(next.Key)):
		return fmt.Errorf("the leader has resigned, and the election is paused: %w", lockerr.ErrNoCandidate)
	case string(next.Value) != r.Candidate:
		return fmt.Errorf("the leader has resigned, and %s leads next: %w", wire.Quote(string(next.Value)), lockerr.ErrNoCandidate)
	default:
		return nil
	}
}
