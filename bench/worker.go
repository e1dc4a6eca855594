package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// worker is a process that contends.
type worker struct {
	links    []link
	sessions []session
	callers  []caller
	tokens   bool
	linger   linger
	stood    *candidacy
}

// linger makes some holds long enough for the referee to see an overlap. An empty hold is
// shorter than the difference of two processes' clocks. It costs every contestant the same,
// at most a hundredth of its time.
type linger struct{ next atomic.Int64 }

const (
	lingerFor   = 20 * time.Microsecond
	lingerEvery = 2 * time.Millisecond
)

func (l *linger) stay(since int64) {
	next := l.next.Load()
	if since < next || !l.next.CompareAndSwap(next, since+int64(lingerEvery)) {
		return
	}
	for clock.now() < since+int64(lingerFor) {
		// A sleep would take fifty times as long.
	}
}

// caller is one of its goroutines.
type caller struct {
	mutex  mutex
	linger *linger
	stays  []stay
	visits int                                  // attempts of a session; 0 if it does not end
	again  func(context.Context) (mutex, error) // ends the session, and begins another one
}

// runWorker serves orders until in ends.
func runWorker(in io.Reader, out io.Writer) error {
	w := &worker{}
	orders := json.NewDecoder(in)
	answers := bufio.NewWriter(out)
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		r, err := w.obey(o)
		if err != nil {
			r.Error = err.Error()
		}
		if err := json.NewEncoder(answers).Encode(r); err != nil {
			return err
		}
		if err := answers.Flush(); err != nil {
			return err
		}
	}
}

func (w *worker) obey(o order) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch o.Do {
	case doOpen:
		return reply{}, w.open(ctx, o)
	case doRun:
		return w.run(ctx, o)
	case doClose:
		return reply{}, w.close()
	case doHold:
		if err := w.open(ctx, o); err != nil {
			return reply{}, err
		}
		_, err := w.callers[0].mutex.lock(ctx)
		return reply{}, err
	case doStand:
		var err error
		w.stood, err = stand(ctx, o)
		return reply{Value: valueOf()}, err
	case doLead:
		return w.stood.lead(ctx)
	case doResign:
		return w.stood.resign(ctx)
	case doLeft:
		return w.stood.left(ctx)
	case doRest:
		r, err := rested(ctx, o)
		return reply{Rest: r}, err
	}
	return reply{}, fmt.Errorf("no such order: %q", o.Do)
}

// open makes what the callers need, and a first request, so that the connection
// stands when the run begins.
func (w *worker) open(ctx context.Context, o order) error {
	c, ok := everybody()[o.Contestant]
	if !ok {
		return fmt.Errorf("no such contestant: %q", o.Contestant)
	}
	ttl := o.TTL
	if ttl == 0 {
		ttl = sessionTTL
	}
	clients := 1
	if o.OwnClients {
		clients = o.Callers
	}
	for i := range clients {
		dial := c.dial
		if o.Stranger && i == 0 {
			dial = everybody()[theMutex].dial
		}
		l, err := dial(ctx, o.Where)
		if err != nil {
			return err
		}
		w.links = append(w.links, l)
	}
	w.tokens = c.tokens
	sessions := 1
	if o.OwnClients || c.sessionEach && !o.OwnNames {
		sessions = o.Callers
	}
	w.sessions = make([]session, sessions)
	var made errgroup.Group
	made.SetLimit(16)
	for i := range w.sessions {
		made.Go(func() (err error) {
			w.sessions[i], err = w.links[i%clients].session(ctx, ttl)
			return err
		})
	}
	if err := made.Wait(); err != nil {
		return err
	}
	w.callers = make([]caller, o.Callers)
	for i := range w.callers {
		name := o.Name
		if o.OwnNames {
			name = fmt.Sprintf("%s/%d", name, i)
		}
		w.callers[i] = caller{mutex: w.sessions[i%sessions].mutex(name), linger: &w.linger}
		if i%2 > 0 && o.Visits > 0 {
			w.callers[i].visits = o.Visits
			w.callers[i].again = func(ctx context.Context) (mutex, error) {
				w.sessions[i].close()
				var err error
				if w.sessions[i], err = w.links[i].session(ctx, ttl); err != nil {
					return nil, err
				}
				return w.sessions[i].mutex(name), nil
			}
		}
	}
	return nil
}

// run has all callers lock and unlock until the time is over.
func (w *worker) run(ctx context.Context, o order) (reply, error) {
	clock.sleepUntil(o.From - int64(o.Warm))
	profiled, err := profileUntil(o)
	if err != nil {
		return reply{}, err
	}
	// Not a deadline: that would be sent along, and etcd might answer that the time is over a
	// moment before it is over here.
	waits, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(time.Duration(o.Until-clock.now()), cancel).Stop()
	var all errgroup.Group
	for i := range w.callers {
		all.Go(func() error { return w.callers[i].run(ctx, waits, o) })
	}
	err = all.Wait()
	r := reply{Blur: clock.blur}
	var errProfile error
	r.Processor, errProfile = profiled()
	if err := errors.Join(err, errProfile); err != nil {
		return reply{}, err
	}
	var stays []stay
	for _, c := range w.callers {
		r.Count += len(c.stays)
		if o.OwnNames {
			r.Verdict = r.Verdict.add(judge(c.stays, 0, w.tokens))
		} else {
			stays = append(stays, c.stays...)
		}
	}
	return r, writeStays(o.File, stays)
}

// run locks and unlocks; waits ends when the time is over.
func (c *caller) run(ctx, waits context.Context, o order) error {
	c.stays = slices.Grow(c.stays[:0], 1<<12)
	for n := 1; waits.Err() == nil; n++ {
		h, err := c.attempt(waits, o)
		switch {
		case err != nil && waits.Err() != nil:
			return nil //nolint:nilerr // the time is over
		case err != nil:
			return fmt.Errorf("lock: %w", err)
		case h != nil:
			if err := c.hold(ctx, h, o); err != nil {
				return err
			}
		}
		if c.visits > 0 && n%c.visits == 0 {
			if c.mutex, err = c.again(ctx); err != nil {
				return fmt.Errorf("another session: %w", err)
			}
		}
	}
	return nil
}

// hold notes the stay of a hold, and releases it.
func (c *caller) hold(ctx context.Context, h hold, o order) error {
	s := stay{Start: clock.now(), Process: o.Process}
	s.Token = h.token()
	if o.Work > 0 {
		time.Sleep(o.Work)
	} else if !o.OwnNames {
		c.linger.stay(s.Start)
	}
	s.End = clock.now()
	if err := h.unlock(ctx); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	if o.From <= s.Start && s.Start < o.Until {
		c.stays = append(c.stays, s)
	}
	return nil
}

func (w *worker) close() error {
	for _, s := range w.sessions {
		s.close()
	}
	for _, l := range w.links {
		l.close()
	}
	w.links, w.sessions, w.callers = nil, nil, nil
	return nil
}

// workerMain is the program in its role of a worker.
func workerMain() int {
	if err := runWorker(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}
