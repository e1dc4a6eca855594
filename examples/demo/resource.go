package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// resource is protected by the locks of the demo, and judges them. It is a small
// HTTP server in the parent process, and does not use etcd.
//
// It is a referee for critical sections: a process that enters must be the only
// one inside, and its token must be larger than all earlier ones. It is also a
// fenced register: it refuses a write with a token older than one it has seen.
type resource struct {
	server   *http.Server
	listener net.Listener

	mu       sync.Mutex
	inside   string // the process in the critical section; empty if there is none
	sections int
	first    int64 // tokens of the first and of the latest section
	latest   int64
	faults   []string // what the referee saw that must never happen
	token    int64    // highest of the register
	value    string
}

func openResource() (*resource, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	r := &resource{listener: listener}
	mux := http.NewServeMux()
	for path, act := range map[string]func(who string, token int64, value string) error{
		"/enter": func(who string, token int64, _ string) error { return r.enter(who, token) },
		"/leave": func(who string, _ int64, _ string) error { return r.leave(who) },
		"/write": func(_ string, token int64, value string) error { return r.write(token, value) },
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
			token, err := strconv.ParseInt(req.FormValue("token"), 10, 64)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if err := act(req.FormValue("who"), token, req.FormValue("value")); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
			}
		})
	}
	r.server = &http.Server{Handler: mux}
	go func() { _ = r.server.Serve(listener) }() // ends with close, and says only that
	return r, nil
}

func (r *resource) url() string  { return "http://" + r.listener.Addr().String() }
func (r *resource) close() error { return r.server.Close() }

// enter opens a critical section.
func (r *resource) enter(who string, token int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fault string
	switch {
	case r.inside != "":
		fault = fmt.Sprintf("%s entered while %s was inside", who, r.inside)
	case token <= r.latest:
		fault = fmt.Sprintf("%s entered with token %d after token %d", who, token, r.latest)
	}
	if fault != "" {
		r.faults = append(r.faults, fault)
		return fmt.Errorf("%s", fault)
	}
	if r.sections == 0 {
		r.first = token
	}
	r.inside, r.latest, r.sections = who, token, r.sections+1
	return nil
}

// leave closes the critical section.
func (r *resource) leave(who string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside != who {
		fault := fmt.Sprintf("%s left while %q was inside", who, r.inside)
		r.faults = append(r.faults, fault)
		return fmt.Errorf("%s", fault)
	}
	r.inside = ""
	return nil
}

// verdict is what the referee has seen so far.
func (r *resource) verdict() (sections int, first, latest int64, faults []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sections, r.first, r.latest, append([]string(nil), r.faults...)
}

// write is fencing, all of it: one number to remember and one comparison.
func (r *resource) write(token int64, value string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if token < r.token {
		return fmt.Errorf("token %d is older than %d", token, r.token)
	}
	r.token, r.value = token, value
	return nil
}

func (r *resource) read() (value string, token int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.value, r.token
}

// refusedError is the error of a request that the resource refused.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return "refused: " + e.why }

// ask sends a request of a process, with its token, to the resource at base.
// The processes call it. If the resource refuses, the error is a *refusedError.
func ask(ctx context.Context, base, act, who string, token int64, value string) error {
	form := url.Values{"who": {who}, "token": {strconv.FormatInt(token, 10)}, "value": {value}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/"+act, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusConflict:
		return &refusedError{strings.TrimSpace(string(body))}
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("resource: %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
