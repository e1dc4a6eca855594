package lockui

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// limitOf is the limit of a semaphore by its entries, 0 if it has none.
func limitOf(q *queues.Queue) int {
	limit := 0
	for i := range q.Entries {
		limit = max(limit, q.Entries[i].Limit)
	}
	return limit
}

// limitAt is the revision at which the limit of a name was set, 0 if it is not set.
func (h *Handler) limitAt(ctx context.Context, name string) (int64, error) {
	resp, err := h.client.Get(ctx, wire.Side(name, "limit"))
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err
	}
	return resp.Kvs[0].ModRevision, nil
}

// planLimit asks for the new limit, and then tells what it means.
func (h *Handler) planLimit(ctx context.Context, query url.Values, name string) (*plan, error) {
	q, rev, err := h.read(ctx, name)
	if err != nil {
		return nil, err
	}
	if q.Kind != queues.Semaphore {
		return nil, &failure{http.StatusNotFound, wire.Quote(name) + " is not a semaphore that is in use."}
	}
	at, err := h.limitAt(ctx, name)
	if err != nil {
		return nil, err
	}
	now := limitOf(q)
	p := &plan{Title: "Set the limit of " + wire.Quote(name), Facts: []fact{
		{"shown", strconv.FormatInt(rev, 10)}, {"at", strconv.FormatInt(at, 10)}, {"now", strconv.Itoa(now)},
	}}
	to := query.Get("to")
	if to == "" {
		p.Number = &now
		return p, nil
	}
	limit, err := parseLimit(to)
	if err != nil {
		return nil, err
	}
	taken, large := 0, 0
	for _, e := range q.Entries {
		if e.Holds {
			taken += e.Permits
		} else if e.Permits > limit {
			large++
		}
	}
	p.Facts = append(p.Facts, fact{"to", to})
	p.Danger = limit < now
	p.Consequences = []string{
		fmt.Sprintf("The limit changes from %d to %d, for all processes, whatever limit they were given. It stays until it is set again.", now, limit),
		fmt.Sprintf("Present holders continue, and have %s.", plural(taken, "permit", "permits")),
	}
	if large > 0 {
		p.Consequences = append(p.Consequences, fmt.Sprintf("%s for more than %d, and fail.", plural(large, "process waits", "processes wait"), limit))
	}
	return p, nil
}

func parseLimit(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > wire.MostPermits {
		return 0, &failure{http.StatusBadRequest, "The limit must be a number from 1 to " + strconv.Itoa(wire.MostPermits) + "."}
	}
	return n, nil
}

// doLimit sets the limit if the present one is the one that was shown.
func (h *Handler) doLimit(ctx context.Context, o *order) (told string, err error) {
	limit, err := parseLimit(o.facts.Get("to"))
	if err != nil {
		return "", err
	}
	shownAt, err := o.number("at")
	if err != nil {
		return "", err
	}
	q, _, err := h.read(ctx, o.name)
	if err != nil {
		return "", err
	}
	at, err := h.limitAt(ctx, o.name)
	if err != nil {
		return "", err
	}
	if at != shownAt || strconv.Itoa(limitOf(q)) != o.facts.Get("now") {
		return "", h.changedSince(ctx, o.name, o.shown)
	}
	s, err := h.openSession(ctx, o.user)
	if err != nil {
		return "", err
	}
	defer h.closeSession(s)
	return fmt.Sprintf("The limit is %d.", limit), etcdlock.NewSemaphore(s, o.name, limit).SetLimit(ctx, limit)
}
