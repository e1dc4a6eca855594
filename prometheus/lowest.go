package promlock

import (
	"sync"
	"time"
)

// lowest is the lowest of some durations in the last minute, or in up to two. Reading takes nothing
// away, so that several servers can scrape a process.
type lowest struct {
	mu    sync.Mutex // guards the fields below
	began time.Time  // the present minute
	now   least      // of the present minute
	last  least      // of the minute before
}

// least is the lowest of some durations.
type least struct {
	of  time.Duration
	set bool // false: there was none
}

func (l *lowest) add(d time.Duration, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(at)
	if d = max(d, 0); !l.now.set || d < l.now.of {
		l.now = least{d, true}
	}
}

// read returns the lowest duration. ok is false if there was none.
func (l *lowest) read(at time.Time) (d time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(at)
	switch {
	case !l.last.set:
		return l.now.of, l.now.set
	case !l.now.set:
		return l.last.of, true
	default:
		return min(l.now.of, l.last.of), true
	}
}

// turn begins another minute when one is over.
func (l *lowest) turn(at time.Time) {
	switch age := at.Sub(l.began); {
	case age < time.Minute:
	case age < 2*time.Minute:
		l.began, l.now, l.last = l.began.Add(time.Minute), least{}, l.now
	default:
		l.began, l.now, l.last = at, least{}, least{}
	}
}
