package sharedtimer

import (
	"sync"
	"time"
)

// Later calls a function with each value that was added, a fixed duration later. A value takes less room
// than a Timer: it is in a list only as long as it waits. Later needs no Close: when nothing waits, its
// runtime timer is not set.
type Later[T comparable] struct {
	after time.Duration
	call  func(T)
	born  time.Time

	mu      sync.Mutex
	waiting []later[T]  // in the order of adding, and so of the calls
	gone    uint64      // number of the values that were in the list before its first one
	runtime *time.Timer // nil until it is first needed
	armed   bool        // true if runtime will fire
}

// later is a value that waits. A value that was dropped is zero.
type later[T any] struct {
	value T
	at    time.Duration // when it is due, since the birth of the Later
}

// NewLater returns a Later that calls a function when after has passed. The function does not block, and
// is not called with the zero value.
func NewLater[T comparable](after time.Duration, call func(T)) *Later[T] {
	return &Later[T]{after: after, call: call, born: time.Now()}
}

// Add has the function called with a value, unless it is dropped before by its number.
func (l *Later[T]) Add(value T) (number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, later[T]{value, time.Since(l.born) + l.after})
	if !l.armed {
		l.arm(l.after)
	}
	return l.gone + uint64(len(l.waiting))
}

// Drop takes back the value of a number, if it waits. No value has the number 0.
func (l *Later[T]) Drop(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number > l.gone {
		l.waiting[number-l.gone-1] = later[T]{}
	}
}

// arm has the timer of the runtime fire. Called with mu held.
func (l *Later[T]) arm(in time.Duration) {
	l.armed = true
	if l.runtime == nil {
		l.runtime = time.AfterFunc(in, l.fire)
	} else {
		l.runtime.Reset(in)
	}
}

// fire makes the calls that are due, and arms the timer of the runtime for the rest.
func (l *Later[T]) fire() {
	for {
		value, ok := l.due()
		if !ok {
			return
		}
		l.call(value)
	}
}

// due takes out the first value that is due. If there is none it arms the timer of the runtime for the
// next one.
func (l *Later[T]) due() (value T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var zero T
	for i := range l.waiting {
		w := &l.waiting[i]
		if w.value == zero {
			continue
		}
		left := w.at - time.Since(l.born)
		if left > 0 {
			l.forget(i)
			l.arm(left)
			return zero, false
		}
		value = w.value
		l.forget(i + 1)
		return value, true
	}
	l.forget(len(l.waiting))
	l.armed = false
	return zero, false
}

// forget takes out the first n values. Called with mu held.
func (l *Later[T]) forget(n int) {
	clear(l.waiting[:n])
	l.gone += uint64(n)
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
}
