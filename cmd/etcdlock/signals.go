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

// signals catches the signals to etcdlock. They are caught before the first request, so that no
// signal ends etcdlock with a key left in etcd. A signal that was ignored at the start stays ignored,
// as with nohup.
type signals struct {
	stop func()

	mu      sync.Mutex
	command *child.Process // receives the signals; nil if they are for etcdlock
	ended   bool           // true after a signal has asked the command to end
	cancel  context.CancelCauseFunc
}

// signalled is the error of a wait that a signal has ended.
type signalled struct{ sig syscall.Signal }

func (s signalled) Error() string { return fmt.Sprintf("signal: %v", s.sig) }

// catchSignals returns a context. If no command receives the signals, a signal that asks for an end
// cancels the context, and is its cause.
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
		s.ended = s.ended || end && sig != syscall.SIGHUP // many commands reload their settings on SIGHUP
	case end:
		interrupted.Store(sig == syscall.SIGINT)
		s.cancel(signalled{sig})
	case isStop(sig):
		child.StopJob()
	}
}

// to passes signals to p from now on, or to etcdlock itself if p is nil.
func (s *signals) to(p *child.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.command = p
}

// askedForEnd reports whether a signal has asked the command to end.
func (s *signals) askedForEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// orSignal is the signal that has ended ctx, or else err.
func orSignal(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && isA[signalled](cause) {
		return cause
	}
	return err
}
