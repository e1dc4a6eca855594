package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdlock/etcdlock"
)

const (
	holderLock = "demo/holder-lock"

	write     = "write"
	unlock    = "unlock"
	lockAgain = "lock again"
)

// holder takes the lock and then does as it is told. When the lock is lost, it
// reports that by itself.
func holder(ctx context.Context, p *player) error {
	mu := etcdlock.NewMutex(p.session, holderLock)
	lock, err := p.take(ctx, mu)
	if err != nil {
		return err
	}
	over := lock.Done()
	for {
		select {
		case <-over:
			over = nil
			cause := context.Cause(lock.Context())
			if !errors.Is(cause, etcdlock.ErrLost) {
				return fmt.Errorf("the lock's context ended with %w", cause)
			}
			p.report(event{Kind: lost, Reason: cause.Error()})
		case command := <-p.commands:
			switch command {
			case write:
				// On purpose without lock.Context(), which would hold a late
				// write back. A write that was on its way when the process
				// stopped looks just like this one.
				err = p.write(ctx, lock.Token())
			case unlock:
				over = nil
				if err = lock.Unlock(ctx); err == nil {
					p.report(event{Kind: released})
				}
			case lockAgain:
				if lock, err = p.take(ctx, mu); err == nil {
					over = lock.Done()
				}
			default:
				err = fmt.Errorf("told to %q", command)
			}
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *player) take(ctx context.Context, mu *etcdlock.Mutex) (*etcdlock.Lock, error) {
	lock, err := mu.Lock(ctx)
	if err == nil {
		p.report(event{Kind: holds, Token: lock.Token()})
	}
	return lock, err
}

func (p *player) write(ctx context.Context, token int64) error {
	err := ask(ctx, p.resource, "write", p.name, token, "by "+p.name)
	var no *refusedError
	switch {
	case err == nil:
		p.report(event{Kind: written, Token: token})
	case errors.As(err, &no):
		p.report(event{Kind: refused, Token: token, Reason: no.why})
	default:
		return err
	}
	return nil
}

// fencing is the scene of the holders.
func (s *stage) fencing(ctx context.Context) error {
	s.report.scene("Fencing: a holder is stopped in its critical section",
		`   A stopped process cannot be notified that its lock is lost. After it continues, it may write
   once more: only the resource can refuse that write, by the token, which is then too old.`)

	sleeper, err := s.cast.start("holder", "sleeper")
	if err != nil {
		return err
	}
	had, err := sleeper.expect(ctx, holds)
	if err != nil {
		return err
	}
	s.report.line("sleeper holds the lock (token %d)", had.Token)
	if err := s.write(ctx, sleeper, written); err != nil {
		return err
	}
	other, err := s.cast.start("holder", "other")
	if err != nil {
		return err
	}
	if err := s.queued(ctx, holderLock, 2); err != nil {
		return err
	}
	if err := s.showQueue(ctx); err != nil {
		return err
	}

	began := time.Now()
	if err := sleeper.signal(suspend); err != nil {
		return err
	}
	s.report.line("kill -STOP sleeper (process %d)", sleeper.pid())
	has, err := other.expect(ctx, holds)
	if err != nil {
		return err
	}
	waited := time.Since(began)
	s.report.line("other holds the lock (token %d), %s later: the lease of sleeper had to run out first", has.Token, took(waited))
	s.report.promise(waited <= ttl+expirySlack && has.Token > had.Token, "a stopped holder loses the lock after its lease",
		"the next one held it after %s, token %d after %d", took(waited), has.Token, had.Token)
	if err := s.write(ctx, other, written); err != nil {
		return err
	}

	began = time.Now()
	if err := sleeper.signal(resume); err != nil {
		return err
	}
	s.report.line("kill -CONT sleeper (process %d)", sleeper.pid())
	told, err := sleeper.expect(ctx, lost)
	if err != nil {
		return err
	}
	s.report.line("sleeper is told %s after it woke up: %q", took(time.Since(began)), told.Reason)
	s.report.promise(true, "the stopped holder was told that the lock is lost, and why", "%q", told.Reason)

	err = s.write(ctx, sleeper, refused)
	value, token := s.resource.read()
	s.report.promise(err == nil && value == "by other" && token == has.Token, "the late write was refused by its token",
		"token %d after %d, the resource says %q", had.Token, token, value)
	if err != nil {
		return err
	}
	return s.lockAgain(ctx, sleeper, other, has.Token)
}

// lockAgain: the session of the holder that lost its lease has a new one.
func (s *stage) lockAgain(ctx context.Context, sleeper, other *actor, after int64) error {
	if err := other.command(unlock); err != nil {
		return err
	}
	if _, err := other.expect(ctx, released); err != nil {
		return err
	}
	if err := sleeper.command(lockAgain); err != nil {
		return err
	}
	has, err := sleeper.expect(ctx, holds)
	if err != nil {
		return err
	}
	s.report.line("other unlocks, sleeper locks again in the same session (token %d)", has.Token)
	err = s.write(ctx, sleeper, written)
	s.report.promise(err == nil && has.Token > after, "a session that lost its lease goes on with a new one", "token %d after %d", has.Token, after)
	if err != nil {
		return err
	}
	return dismiss(ctx, sleeper, other)
}

// write lets a holder write, and tells what the resource did. It fails unless
// that was as expected.
func (s *stage) write(ctx context.Context, a *actor, expected string) error {
	if err := a.command(write); err != nil {
		return err
	}
	e, err := a.expect(ctx, written, refused)
	if err != nil {
		return err
	}
	if e.Kind == written {
		s.report.line("%s writes with token %d: accepted", a.name, e.Token)
	} else {
		s.report.line("%s writes with token %d: refused, %s", a.name, e.Token, e.Reason)
	}
	if e.Kind != expected {
		return fmt.Errorf("the write of %s with token %d was %s, should be %s", a.name, e.Token, e.Kind, expected)
	}
	return nil
}

// showQueue prints the holder of the lock and its waiters.
func (s *stage) showQueue(ctx context.Context) error {
	queue, err := etcdlock.NewMutex(s.session, holderLock).Queue(ctx)
	if err != nil {
		return err
	}
	for i, entry := range queue {
		place := "waits"
		if i == 0 {
			place = "holds the lock"
		}
		s.report.line("%s (process %d) %s", entry.Owner, entry.PID, place)
	}
	return nil
}
