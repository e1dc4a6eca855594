package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
)

// signals are those that etcdlock gets. They are caught from before the first request on, so
// that none of them ends it with something left behind in etcd. What was ignored when it was
// started, as with nohup, stays so.
type signals struct {
	caught chan os.Signal
	ended  *signalled // the first one that asked for an end
}

// signalled is the end that a signal has asked for.
type signalled struct{ sig syscall.Signal }

func (s signalled) Error() string { return fmt.Sprintf("signal: %v", s.sig) }

func catchSignals() *signals {
	s := &signals{caught: make(chan os.Signal, len(child.Signals))}
	for _, sig := range child.Signals {
		if !signal.Ignored(sig) {
			signal.Notify(s.caught, sig)
		}
	}
	return s
}

func (s *signals) stop() { signal.Stop(s.caught) }

// asksForEnd tells whether a signal says to come to an end, and remembers the first.
func (s *signals) asksForEnd(sig os.Signal) bool {
	switch sig {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		if s.ended == nil {
			s.ended = &signalled{sig.(syscall.Signal)}
		}
		return true
	default:
		return false
	}
}

// during calls f with a context that ends with the first signal that asks for an end. Then
// the signal is the error, whatever f returns.
func (s *signals) during(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	done, heard := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(heard)
		for {
			select {
			case sig := <-s.caught:
				if s.asksForEnd(sig) {
					cancel(*s.ended)
				}
			case <-done:
				return
			}
		}
	}()
	err := f(ctx)
	close(done)
	<-heard
	cancel(nil)
	if s.ended != nil {
		return *s.ended
	}
	return err
}
