// Package notify calls functions of a user, one after the other, without delaying the code that has
// something to report. That code may hold a mutex.
package notify

import (
	"math"
	"sync"
)

// Most is how many calls wait at most.
const Most = 1024

// Queue has the calls that are still to be made. Its zero value is ready. Its goroutine exists only
// while there is something to call, so a Queue needs no end.
type Queue struct {
	mu      sync.Mutex // guards the fields below
	calls   []func()
	running bool
}

// Put adds a call. It never blocks and makes no call itself. A call is dropped while Most others wait,
// which happens if an earlier one does not return.
func (q *Queue) Put(call func()) { q.put(call, Most) }

// PutAlways is Put of a call that is never dropped. It is for rare events.
func (q *Queue) PutAlways(call func()) { q.put(call, math.MaxInt) }

func (q *Queue) put(call func(), most int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.calls) >= most {
		return
	}
	q.calls = append(q.calls, call)
	if !q.running {
		q.running = true
		go q.run()
	}
}

// run makes all calls. A call that ends the goroutine by runtime.Goexit has returned.
func (q *Queue) run() {
	calling := true
	defer func() {
		if calling {
			go q.run()
		}
	}()
	for call := q.take(); call != nil; call = q.take() {
		call()
	}
	calling = false
}

// take returns the next call. It returns nil, and the goroutine ends, if there is none.
func (q *Queue) take() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.calls) == 0 {
		q.running = false
		return nil
	}
	call := q.calls[0]
	q.calls[0] = nil
	q.calls = q.calls[1:]
	return call
}
