package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// signals are those that etcdlock gets. They are caught from before the first request on, so
// that none of them ends it with something left behind in etcd. What was ignored when it was
// started, as with nohup, stays so.
type signals struct {
	stop func()

	mu      sync.Mutex
	command *child.Process // for which they are, nil if they are for etcdlock
	ended   bool           // one has asked the command for an end
	cancel  context.CancelCauseFunc
}

// signalled is the end that a signal has asked for.
type signalled struct{ sig syscall.Signal }

func (s signalled) Error() string { return fmt.Sprintf("signal: %v", s.sig) }

// catchSignals returns a context that ends with a signal that asks for an end, if there is no
// command for which it is. Its cause is then the signal.
func catchSignals(ctx context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &signals{cancel: cancel}
	caught, done := make(chan os.Signal, len(child.Signals)), make(chan struct{})
	for _, sig := range child.Signals {
		if !signal.Ignored(sig) {
			signal.Notify(caught, sig)
		}
	}
	s.stop = func() {
		signal.Stop(caught)
		close(done)
		cancel(nil)
	}
	go func() {
		for {
			select {
			case sig := <-caught:
				s.pass(sig.(syscall.Signal))
			case <-done:
				return
			}
		}
	}()
	return ctx, s
}

func (s *signals) pass(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := sig == syscall.SIGINT || sig == syscall.SIGTERM || sig == syscall.SIGHUP || sig == syscall.SIGQUIT
	switch {
	case s.command != nil:
		s.command.Signal(sig)
		s.ended = s.ended || end && sig != syscall.SIGHUP // to many it says to read their settings again
	case end:
		interrupted.Store(sig == syscall.SIGINT)
		s.cancel(signalled{sig})
	case isStop(sig):
		child.StopJob()
	}
}

// to passes signals on to a command from now on, or to none if that is nil.
func (s *signals) to(p *child.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.command = p
}

// askedForEnd tells whether a signal for a command has asked for the end.
func (s *signals) askedForEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// orSignal is the signal that has ended a context, or else the error.
func orSignal(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && isA[signalled](cause) {
		return cause
	}
	return err
}
