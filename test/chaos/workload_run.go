package main

import (
	"context"

	"github.com/etcdlock/etcdlock"
)

// led is the work of a Run, for one term: held for as long as the work's context lasts, and
// released when the work has returned and Run with it.
type led struct {
	held
	work context.Context
}

func (l led) lost() <-chan struct{} { return l.work.Done() }
func (l led) why() error            { return context.Cause(l.work) }

// lead runs an election until it leads, and for that one term.
func lead(ctx context.Context, s *etcdlock.Session, name string) (hold, error) {
	running, stop := context.WithCancel(context.Background())
	terms, back, ended := make(chan led), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- etcdlock.NewElection(s, name).Run(running, "chaos", func(work context.Context, term *etcdlock.Term) error {
			select {
			case terms <- led{held{handle: term}, work}:
				<-back
			case <-work.Done():
			}
			return nil
		})
	}()
	select {
	case l := <-terms:
		l.free = func(context.Context) error {
			if l.work.Err() != nil {
				stop() // or Run would campaign again
			}
			close(back)
			err := <-ended
			stop()
			return err
		}
		return l, nil
	case err := <-ended:
		stop()
		return nil, err
	case <-ctx.Done():
		stop()
		return nil, <-ended
	}
}
