package lockui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	askedFor = 10 * time.Minute // a request to release is withdrawn after it
	mostAsks = 16               // at a time, because each has a session
)

// planAsk tells what a request to release means.
func (h *Handler) planAsk(ctx context.Context, _ url.Values, name string) (*plan, error) {
	q, rev, err := h.read(ctx, name)
	if err != nil {
		return nil, err
	}
	holders := q.Holders()
	if len(holders) == 0 {
		return nil, &failure{http.StatusNotFound, "No process holds " + wire.Quote(name) + "."}
	}
	p := &plan{
		Title: "Ask to release " + wire.Quote(name),
		Facts: []fact{{"holders", fingerprint(q)}, {"shown", strconv.FormatInt(rev, 10)}},
		Consequences: []string{
			owners(holders) + map[bool]string{true: " is", false: " are"}[len(holders) == 1] + " asked to release.",
			"A holder decides itself whether it releases, and hears of the request only if its program listens. Nothing is taken away.",
			"The request is withdrawn after 10 minutes, or when this page is closed.",
		},
	}
	if waiters := q.Waiters(); len(waiters) > 0 {
		p.Consequences = append(p.Consequences, "If the lock is released, the next waiter is "+person(&waiters[0])+".")
	}
	return p, nil
}

// doAsk posts the request if the holders are those that were shown. The request outlives the call.
func (h *Handler) doAsk(ctx context.Context, o *order) (told string, err error) {
	q, _, err := h.read(ctx, o.name)
	if err != nil {
		return "", err
	}
	if fingerprint(q) != o.facts.Get("holders") {
		return "", h.changedSince(ctx, o.name, o.shown)
	}
	_, err = h.request(ctx, o, func(ctx context.Context, s *etcdlock.Session) error { return s.Ask(ctx, o.name, o.reason) })
	return "The holders are asked. The page of the name shows the request until they have released.", err
}

// request makes a request that lasts until it is honoured, in a session of its own and after the call
// has returned. ended has its result.
func (h *Handler) request(ctx context.Context, o *order, ask func(context.Context, *etcdlock.Session) error) (ended <-chan error, err error) {
	select {
	case h.asking <- struct{}{}:
	default:
		return nil, &failure{http.StatusTooManyRequests, "Too many requests are under way."}
	}
	s, err := h.openSession(ctx, o.user)
	if err != nil {
		<-h.asking
		return nil, err
	}
	if !h.begin() {
		<-h.asking
		return nil, errors.Join(etcdlock.ErrSessionClosed, s.Close(ctx))
	}
	result := make(chan error, 1)
	go func() {
		defer h.tasks.Done()
		defer func() { <-h.asking }()
		asked, cancel := context.WithTimeout(h.life, askedFor)
		defer cancel()
		err := ask(asked, s)
		h.cfg.log.Info("request has ended", "name", o.name, "user", o.user, "error", err)
		h.closeSession(s)
		result <- err
	}()
	return result, nil
}

// openSession makes a session for one action.
func (h *Handler) openSession(ctx context.Context, user string) (*etcdlock.Session, error) {
	return etcdlock.NewSession(ctx, h.client, etcdlock.WithOwner(by(user)), etcdlock.WithForeignNames())
}

// closeSession closes a session, also when the handler is closing.
func (h *Handler) closeSession(s *etcdlock.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // after an error the lease expires
	defer cancel()
	_ = s.Close(ctx)
}
