package etcdproc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock/internal/procs"
)

// Server is a process that listens for clients. A restart replaces the Child, so only one goroutine
// at a time may kill and start the process.
type Server struct {
	*procs.Child
	Endpoint string // a URL

	kids   *procs.Children
	binary string
	args   []string
	env    []string
	log    string
}

// Serve starts etcd, or its proxy, with arguments that make it listen on endpoint. Its output is
// appended to the file log.
func (p Programs) Serve(kids *procs.Children, endpoint, log string, args ...string) (*Server, error) {
	s := &Server{Endpoint: endpoint, kids: kids, binary: p.Etcd, args: args, log: log}
	return s, s.Start()
}

// Start starts the process, again after it has ended.
func (s *Server) Start() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(s.binary, s.args...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := s.kids.Start(cmd)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	s.Child = p
	return nil
}

// Running reports whether the process has not ended.
func (s *Server) Running() bool {
	select {
	case <-s.Gone():
		return false
	default:
		return true
	}
}

// Await waits until try succeeds. It fails when the process or ctx ends.
func (s *Server) Await(ctx context.Context, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.Gone():
			return fmt.Errorf("etcd ended (%w); its log ends with %s", s.Err(), s.LastWords())
		case <-ctx.Done():
			return fmt.Errorf("etcd at %s does not get ready: %w; its log ends with %s", s.Endpoint, err, s.LastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// LastWords are the end of the log.
func (s *Server) LastWords() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-1000):]))
}
