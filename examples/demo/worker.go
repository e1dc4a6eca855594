package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

const (
	workers    = 4
	increments = 50 // of each worker
	counterKey = "demo/counter"

	withoutLock = "count without the lock"
	withLock    = "count with the lock"
)

// worker raises the counter, once without the lock and once under it.
func worker(ctx context.Context, p *player) error {
	p.report(event{Kind: ready})
	if err := p.await(ctx, withoutLock); err != nil {
		return err
	}
	for range increments {
		if err := p.raise(ctx); err != nil {
			return err
		}
	}
	p.report(event{Kind: finished})

	if err := p.await(ctx, withLock); err != nil {
		return err
	}
	mu := etcdlock.NewMutex(p.session, "demo/counter-lock")
	for range increments {
		err := mu.Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
			// The referee looks at the order of the sections and their tokens.
			if err := ask(ctx, p.resource, "enter", p.name, lock.Token(), ""); err != nil {
				return err
			}
			if err := p.raise(ctx); err != nil {
				return err
			}
			return ask(ctx, p.resource, "leave", p.name, lock.Token(), "")
		})
		if err != nil {
			return err
		}
	}
	p.report(event{Kind: finished})
	return nil
}

// raise adds one to the counter without a transaction, so that a write between
// the read and the write is lost.
func (p *player) raise(ctx context.Context) error {
	n, err := readCounter(ctx, p.client)
	if err != nil {
		return err
	}
	_, err = p.client.Put(ctx, counterKey, strconv.Itoa(n+1))
	return err
}

func readCounter(ctx context.Context, client *clientv3.Client) (int, error) {
	resp, err := client.Get(ctx, counterKey)
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err
	}
	return strconv.Atoi(string(resp.Kvs[0].Value))
}

// counter is the scene of the workers.
func (s *stage) counter(ctx context.Context) error {
	s.report.scene("Mutex: a shared counter", fmt.Sprintf(
		`   %d processes each add 1 to the same counter %d times: read it, add 1, write it back.
   Where two of them do so at once, one update is lost.`, workers, increments))

	var all []*actor
	for i := range workers {
		a, err := s.cast.start("worker", fmt.Sprintf("worker-%d", i+1))
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	if err := together(ctx, all, ready, ""); err != nil {
		return err
	}

	// First without the lock, to show that updates can get lost here at all.
	const want = workers * increments
	for _, how := range []string{withoutLock, withLock} {
		if _, err := s.client.Delete(ctx, counterKey); err != nil {
			return err
		}
		began := time.Now()
		broken := together(ctx, all, finished, how)
		needed := time.Since(began)
		n, err := readCounter(ctx, s.client)
		if err != nil {
			return errors.Join(broken, err)
		}
		if how == withoutLock {
			s.report.line("without the lock: %d increments, the counter says %d: %d updates lost", want, n, want-n)
		} else {
			s.report.line("with the lock:    %d increments, the counter says %d, after %s", want, n, took(needed))
			s.report.promise(n == want && broken == nil, "no update was lost under the mutex", "%d increments by %d processes, counter %d", want, workers, n)
			s.judge(want)
		}
		if broken != nil {
			return broken
		}
	}
	for _, a := range all {
		if err := a.wait(ctx); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// judge asks the referee about the critical sections.
func (s *stage) judge(want int) {
	sections, first, latest, faults := s.resource.verdict()
	for _, fault := range faults {
		s.report.line("the referee saw that %s", fault)
	}
	s.report.line("the referee saw %d critical sections one after the other, with tokens from %d up to %d", sections, first, latest)
	s.report.promise(len(faults) == 0 && sections == want, "one holder at a time, each with a larger token than the one before",
		"%d sections, tokens %d to %d, %d faults", sections, first, latest, len(faults))
}

// together sends all of them a command, if there is one, and returns when each
// has answered with the event.
func together(ctx context.Context, all []*actor, answer, command string) error {
	var errs []error
	for _, a := range all {
		if command != "" {
			errs = append(errs, a.command(command))
		}
	}
	for _, a := range all {
		_, err := a.expect(ctx, answer)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
