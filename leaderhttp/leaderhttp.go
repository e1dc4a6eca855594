// Package leaderhttp serves the state of an [etcdlock.Election.Run] over HTTP, for load balancers,
// Kubernetes probes and people.
//
//	var monitor etcdlock.Monitor
//	go func() { log.Println(http.ListenAndServe(":8080", leaderhttp.Handler(&monitor))) }()
//	err := election.Run(ctx, value, fn, etcdlock.WithMonitor(&monitor))
//
// It imports only the standard library and etcdlock.
package leaderhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/etcdlock/etcdlock"
)

// LeaderHeader is the header of an answer from /leader with the value of the leader, as it was
// proposed or proclaimed. A value that is not plain ASCII is sent as a Go string literal. The
// header is missing while no leader is known.
const LeaderHeader = "Etcdlock-Leader"

// TokenHeader is the header of an answer of 200 from /leader with the fencing token of the term.
const TokenHeader = "Etcdlock-Token"

// UnconfirmedHeader is the header that is "true" while the leader of LeaderHeader may have given up,
// see [etcdlock.Leader.Unconfirmed].
const UnconfirmedHeader = "Etcdlock-Leader-Unconfirmed"

const (
	// fresh is for how long a list of candidates is reused before etcd is asked again.
	fresh = time.Second
	// statusTimeout is how long the status waits for etcd.
	statusTimeout = time.Second
)

// Handler answers GET, HEAD and, as HEAD, OPTIONS of
//
//	/leader    200 while this process leads, else 503; the body is the leader's value
//	/healthz   200 unless a restart of the process would help: 503 when the function of
//	           Run is stuck, or Run has ended with an error
//	/readyz    200 while the process takes part in the election: Run is under way, the
//	           session has a lease, and the health check passes; else 503. It does not
//	           say which process leads.
//	/status    the whole state, as JSON, with the candidates in order
//
// A leader that cannot reach etcd answers 200 until its deadline. An answer may be out of date when
// it arrives. Only the context of the function and the fencing token protect work.
//
// OPTIONS is the method of HAProxy's default check. Any other method is answered with 405.
//
// Only /status asks etcd, for the candidates, at most once a second and for at most a second. A
// client that disconnects does not end a request for which other clients wait. To mount the handler
// under another path, wrap it in [http.StripPrefix].
func Handler(m *etcdlock.Monitor) http.Handler {
	h := &handler{monitor: m}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /leader", h.leader)
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.HandleFunc("GET /status", h.status)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.Method == http.MethodOptions {
			r = r.Clone(r.Context())
			r.Method, w = http.MethodHead, headOnly{w}
		}
		mux.ServeHTTP(w, r)
	})
}

// headOnly drops the body. net/http does this for an answer to HEAD, but not to OPTIONS.
type headOnly struct{ http.ResponseWriter }

func (headOnly) Write(b []byte) (int, error) { return len(b), nil }

type handler struct {
	monitor *etcdlock.Monitor

	mu    sync.Mutex
	asked *listing // the last request to etcd; nil before the first one
}

// listing is one request to etcd for the candidates. Any number of HTTP requests share it.
type listing struct {
	at time.Time // when it was answered

	done chan struct{} // closed when it has been answered
	list []etcdlock.Candidate
	err  error
}

func (h *handler) leader(w http.ResponseWriter, _ *http.Request) {
	s := h.monitor.Status()
	code, value := http.StatusServiceUnavailable, ""
	switch {
	case s.Leading():
		code, value = http.StatusOK, s.Term.Value
		w.Header().Set(LeaderHeader, headerValue(value))
		w.Header().Set(TokenHeader, strconv.FormatInt(s.Term.Token, 10))
	case !s.LeaderSince.IsZero() && !s.Leader.Vacant():
		value = s.Leader.Value
		w.Header().Set(LeaderHeader, headerValue(value))
		if s.Leader.Unconfirmed {
			w.Header().Set(UnconfirmedHeader, "true")
		}
	}
	answer(w, code, value)
}

// headerValue is a value in a form that a header can have.
func headerValue(value string) string {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(value) != value {
		return strconv.QuoteToASCII(value)
	}
	return value
}

func (h *handler) healthz(w http.ResponseWriter, _ *http.Request) {
	s := h.monitor.Status()
	switch {
	case s.Stuck:
		answer(w, http.StatusServiceUnavailable, "the work has not stopped in time")
	case !s.Running && s.Err != nil:
		answer(w, http.StatusServiceUnavailable, s.Err.Error())
	default:
		answer(w, http.StatusOK, "ok")
	}
}

func (h *handler) readyz(w http.ResponseWriter, _ *http.Request) {
	if why := notReady(h.monitor.Status()); why != nil {
		answer(w, http.StatusServiceUnavailable, why.Error())
		return
	}
	answer(w, http.StatusOK, "ok")
}

// notReady is the reason why a process does not take part, and nil if it does.
func notReady(s etcdlock.ElectionStatus) error {
	switch {
	case !s.Running:
		return errors.Join(errors.New("the election does not campaign"), s.Err)
	case s.Unhealthy != nil:
		return s.Unhealthy
	case s.Session != etcdlock.StateConnected && s.Session != etcdlock.StateSuspended:
		return fmt.Errorf("the session is %v", s.Session)
	default:
		return nil
	}
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // after an error the client has disconnected
}

// Status is the JSON object that /status answers with.
type Status struct {
	Election string    `json:"election"`
	Running  bool      `json:"running"`
	Role     string    `json:"role"`
	Since    time.Time `json:"since,omitzero"` // when it got the role
	Leading  bool      `json:"leading"`
	Term     *Term     `json:"term,omitempty"`   // of this process
	Leader   *Leader   `json:"leader,omitempty"` // nil while no leader is known

	Candidates      []Candidate `json:"candidates"` // in order, the leader first
	CandidatesError string      `json:"candidates_error,omitempty"`

	Session   string `json:"session"`
	Ready     bool   `json:"ready"`
	Unhealthy string `json:"unhealthy,omitempty"`
	Stuck     bool   `json:"stuck,omitempty"`
	Error     string `json:"error,omitempty"` // with which Run ended

	// StopAfterLoss is how long the work has to return when its term is lost.
	StopAfterLoss float64 `json:"stop_after_loss_seconds,omitempty"`
}

// Term is the term of the process that answers.
type Term struct {
	// CreateRevision is the number of the term, which all observers see in their Leader.
	CreateRevision int64 `json:"create_revision"`
	// Token is the fencing token, which is at least as large. Observers do not know it.
	Token    int64     `json:"token"`
	Since    time.Time `json:"since"`
	Age      float64   `json:"age_seconds"`
	Deadline time.Time `json:"deadline,omitzero"` // no other candidate can lead before
}

// Leader is the leader that this process sees.
type Leader struct {
	Candidate
	// Unconfirmed is true while the leader may have given up, see [etcdlock.Leader.Unconfirmed].
	Unconfirmed bool      `json:"unconfirmed,omitempty"`
	Since       time.Time `json:"since"` // when the process that answers saw it first
	Age         float64   `json:"age_seconds"`
}

// Candidate is the leader or a waiting candidate.
type Candidate struct {
	Value string `json:"value"`
	Lease string `json:"lease"` // in hexadecimal, as etcdctl writes it
	// CreateRevision is the revision at which the candidate entered the queue. It is the number of its
	// term, which grows from leader to leader and is the same for all observers.
	CreateRevision int64 `json:"create_revision"`
}

func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	s := h.monitor.Status()
	out := Status{
		Election: s.Election, Running: s.Running, Role: s.Role.String(), Since: s.Since, Leading: s.Leading(),
		Candidates: []Candidate{}, Session: s.Session.String(), Ready: notReady(s) == nil,
		Unhealthy: text(s.Unhealthy), Stuck: s.Stuck, Error: text(s.Err), StopAfterLoss: s.StopAfterLoss.Seconds(),
	}
	if s.Term != nil {
		out.Term = &Term{
			CreateRevision: s.Term.CreateRevision, Token: s.Term.Token,
			Since: s.Term.Since, Age: time.Since(s.Term.Since).Seconds(), Deadline: s.Term.Deadline,
		}
	}
	if !s.LeaderSince.IsZero() && !s.Leader.Vacant() {
		out.Leader = &Leader{Candidate: candidate(s.Leader.Value, int64(s.Leader.Lease), s.Leader.CreateRevision), Unconfirmed: s.Leader.Unconfirmed, Since: s.LeaderSince, Age: time.Since(s.LeaderSince).Seconds()}
	}
	candidates, err := h.candidates(r.Context())
	out.CandidatesError = text(err)
	for _, c := range candidates {
		out.Candidates = append(out.Candidates, candidate(c.Value, int64(c.Lease), c.CreateRevision))
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(out) // after an error the client has disconnected
}

func candidate(value string, lease, createRevision int64) Candidate {
	return Candidate{Value: value, Lease: strconv.FormatInt(lease, 16), CreateRevision: createRevision}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// candidates asks etcd, or returns the last answer if it is fresh. The request to etcd does not use
// the context of the HTTP request, so a client that disconnects ends its own wait only.
func (h *handler) candidates(ctx context.Context) ([]etcdlock.Candidate, error) {
	l := h.listing()
	select {
	case <-l.done:
		return l.list, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listing is the request under way, or the last one if its answer is fresh, or a new one.
func (h *handler) listing() *listing {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.asked; l != nil {
		select {
		case <-l.done:
			if time.Since(l.at) < fresh {
				return l
			}
		default:
			return l
		}
	}
	l := &listing{done: make(chan struct{})}
	h.asked = l
	go func() {
		defer close(l.done)
		ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
		defer cancel()
		l.list, l.err = h.monitor.Candidates(ctx)
		l.at = time.Now()
	}()
	return l
}
