package leaderloop

import "sync"

// mostObservations is how many calls of putLimited wait at the same time.
const mostObservations = 256

// callbackQueue calls the callbacks of a Run one after the other, in a goroutine of its own.
type callbackQueue struct {
	wake chan struct{} // holds one
	done chan struct{} // closed when all calls have returned after close

	mu      sync.Mutex // guards the fields below
	queue   []func()
	limited []func() // the calls of putLimited that are in the queue, oldest first
	closed  bool
}

func startCallbackQueue() *callbackQueue {
	q := &callbackQueue{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

func (q *callbackQueue) run() {
	calling := false
	defer func() {
		if calling { // a callback has ended this goroutine by runtime.Goexit; later callbacks are still called
			go q.run()
			q.ring()
			return
		}
		close(q.done)
	}()
	for range q.wake {
		for {
			call, closed := q.take()
			if call == nil {
				if closed {
					return
				}
				break
			}
			calling = true
			call()
			calling = false
		}
	}
}

// take removes the oldest call; it is nil if there is none.
func (q *callbackQueue) take() (call func(), closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		return nil, q.closed
	}
	return removeFirst(&q.queue), q.closed
}

// put adds a call.
func (q *callbackQueue) put(call func()) {
	q.mu.Lock()
	q.queue = append(q.queue, call)
	q.mu.Unlock()
	q.ring()
}

// putLimited adds a call. When too many of them wait, the oldest is dropped: the others move up by
// one place, and calls of put keep theirs.
func (q *callbackQueue) putLimited(call func()) {
	q.mu.Lock()
	q.limited = append(q.limited, call)
	if len(q.limited) > mostObservations {
		removeFirst(&q.limited)
	} else {
		q.queue = append(q.queue, q.callLimited)
	}
	q.mu.Unlock()
	q.ring()
}

// callLimited makes the oldest call of putLimited.
func (q *callbackQueue) callLimited() {
	q.mu.Lock()
	call := removeFirst(&q.limited)
	q.mu.Unlock()
	call()
}

// removeFirst removes the first call, and whatever it refers to from the array.
func removeFirst(calls *[]func()) func() {
	first := (*calls)[0]
	(*calls)[0] = nil
	*calls = (*calls)[1:]
	return first
}

func (q *callbackQueue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close waits until all calls have returned.
func (q *callbackQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ring()
	<-q.done
}
