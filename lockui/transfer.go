package lockui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// soon is how long an action waits for the result of a transfer, which lasts as long as the work of the
// leader takes to stop. AskToTransfer finds out within that time that a leader honours no requests.
const soon = 7 * time.Second

// candidateIn is the candidate that a query names, or the only one that waits. A leader is asked for a
// candidate by its value, which means the youngest candidate with that value that lives.
func candidateIn(q *queues.Queue, query url.Values) (*queues.Entry, error) {
	waiting := q.Waiters()
	e := chosen(q, query)
	if query.Get("key") == "" && len(waiting) == 1 {
		e = &waiting[0]
	}
	switch {
	case q.Kind != queues.Election || len(q.Holders()) == 0:
		return nil, &failure{http.StatusNotFound, wire.Quote(q.Name) + " is not an election with a leader."}
	case e == nil || e.Holds:
		return nil, &failure{http.StatusNotFound, "This candidate no longer waits."}
	case e.Value == "":
		return nil, &failure{http.StatusBadRequest, "This candidate has no value, by which a leader could be asked for it."}
	}
	for i := range waiting {
		if o := &waiting[i]; o.Value == e.Value && o.CreateRevision < e.CreateRevision {
			return nil, &failure{http.StatusBadRequest, "An older candidate has the same value, so a leader would hand over to that one."}
		}
	}
	return e, nil
}

// planTransfer tells what a transfer to a candidate means.
func (h *Handler) planTransfer(ctx context.Context, query url.Values, name string) (*plan, error) {
	q, rev, err := h.read(ctx, name)
	if err != nil {
		return nil, err
	}
	e, err := candidateIn(q, query)
	if err != nil {
		return nil, err
	}
	return &plan{
		Title: "Transfer to " + person(e),
		Facts: []fact{
			{"key", e.Key}, {"create", strconv.FormatInt(e.CreateRevision, 10)}, {"holders", fingerprint(q)}, {"shown", strconv.FormatInt(rev, 10)},
		},
		Consequences: []string{
			owners(q.Holders()) + " is asked to hand over to " + person(e) + ", whatever the priorities.",
			"The work of the leader ends first, so no two leaders work at the same time. Until it has ended, the leader leads.",
			"A leader that does not announce that it honours such requests is not asked, and nothing is done.",
		},
	}, nil
}

// doTransfer asks the leader if leader and candidate are those that were shown.
func (h *Handler) doTransfer(ctx context.Context, o *order) (told string, err error) {
	q, _, err := h.read(ctx, o.name)
	if err != nil {
		return "", err
	}
	e, err := candidateIn(q, o.facts)
	if err != nil || fingerprint(q) != o.facts.Get("holders") {
		return "", h.changedSince(ctx, o.name, o.shown)
	}
	ended, err := h.request(ctx, o, func(ctx context.Context, s *etcdlock.Session) error {
		return etcdlock.NewElection(s, o.name).AskToTransfer(ctx, e.Value, o.reason)
	})
	if err != nil {
		return "", err
	}
	select {
	case err = <-ended:
	case <-time.After(soon):
		return "The leader is asked. The page of the election shows when it has handed over.", nil
	}
	switch {
	case errors.Is(err, etcdlock.ErrNotHonoured):
		return "", &failure{http.StatusConflict, "The leader does not honour requests. Nothing was done."}
	case errors.Is(err, etcdlock.ErrNoCandidate), errors.Is(err, etcdlock.ErrNoLeader):
		return "", h.changedSince(ctx, o.name, o.shown)
	default:
		return "The leader has handed over.", err
	}
}
