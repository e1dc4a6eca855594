package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/leaderhttp"
)

// noteKey is the data of the pair: one note, in etcd.
const noteKey = "examples/replica-note"

// server serves the note. It takes writes while it is primary.
type server struct {
	client   *clientv3.Client
	id       string
	listener net.Listener
	address  string
	monitor  etcdlock.Monitor
	term     atomic.Pointer[etcdlock.Term] // nil: not the primary
}

func newServer(client *clientv3.Client, id, listen string) (*server, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	return &server{client: client, id: id, listener: l, address: l.Addr().String()}, nil
}

// run serves and campaigns until ctx ends. With a turn it steps down after that time.
func (s *server) run(ctx context.Context, name string, turn time.Duration) error {
	mux := http.NewServeMux()
	mux.Handle("/", leaderhttp.Handler(&s.monitor)) // /leader, /healthz, /readyz, /status
	mux.HandleFunc("GET /note", s.read)
	mux.HandleFunc("POST /note", s.write)
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(s.listener) }()
	defer func() { _ = web.Close(); <-ended }() //nolint:errcheck // that it was closed

	session, closeSession, err := devetcd.NewSession(ctx, s.client, etcdlock.WithOwner(s.id))
	if err != nil {
		return err
	}
	defer closeSession()
	return etcdlock.NewElection(session, name).Run(ctx, s.address,
		func(ctx context.Context, term *etcdlock.Term) error { return s.primary(ctx, term, turn) },
		etcdlock.WithMonitor(&s.monitor),
		// A server that cannot serve does not stand.
		etcdlock.WithHealthCheck(etcdlock.HealthCheck{Interval: time.Second, Failures: 3, Check: func(ctx context.Context) error {
			_, err := s.client.Get(ctx, noteKey)
			return err
		}}),
		etcdlock.WithOnRole(func(r etcdlock.Role) { fmt.Printf("%s is %v\n", s.id, r) }),
	)
}

// primary lets writes in for one term.
func (s *server) primary(ctx context.Context, term *etcdlock.Term, turn time.Duration) error {
	s.term.Store(term)
	defer s.term.Store(nil)
	if turn == 0 {
		<-ctx.Done()
		return nil
	}
	select {
	case <-time.After(turn):
		fmt.Printf("%s steps down\n", s.id)
		s.term.Store(nil)
		return term.Resign(ctx)
	case <-ctx.Done():
		return nil
	}
}

func (s *server) read(w http.ResponseWriter, r *http.Request) {
	resp, err := s.client.Get(r.Context(), noteKey)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	case len(resp.Kvs) > 0:
		_, _ = w.Write(resp.Kvs[0].Value)
	}
}

func (s *server) write(w http.ResponseWriter, r *http.Request) {
	note, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.store(r.Context(), string(note)); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintf(w, "written by %s\n", s.id)
}

var errNotPrimary = errors.New("not the primary")

// store writes the note under the guard of the term: a primary that was stopped, and has
// been replaced without knowing it, is refused by etcd itself.
func (s *server) store(ctx context.Context, note string) error {
	term := s.term.Load()
	if term == nil || term.Err() != nil {
		return errNotPrimary
	}
	resp, err := s.client.Txn(ctx).If(term.Guard()).Then(clientv3.OpPut(noteKey, note)).Commit()
	if err == nil && !resp.Succeeded {
		err = errNotPrimary
	}
	return err
}
