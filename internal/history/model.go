package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// A Model is what a primitive allows. What is common to all: a token never shrinks from holder to holder, and is the same
// only for holders of one session, who hand over in memory.
type Model struct {
	what  string
	limit int64 // what a semaphore begins with
	// admit tells whether a hold may begin, or become what it asks for, beside those that are there.
	admit func(s *state, o *Op) bool
	// fenced tells whether its token will do.
	fenced func(s *state, o *Op) bool
	// first tells that a hold must be first in etcd from its beginning to its end.
	first bool
}

// Mutex has one holder at a time.
var Mutex = Model{what: "mutex", admit: alone, fenced: grows}

// Election has one leader at a time, and whoever asks is told who is first in etcd at that time, or that nobody is. A
// leader is first for as long as it leads. It works for a mutex too, and needs evidence.
var Election = Model{what: "election", admit: alone, fenced: grows, first: true}

// Shared is a shared lock: one writer, or any number of readers. A reader's token is larger than that of every writer
// before it, a writer's larger than all.
var Shared = Model{
	what: "shared lock",
	admit: func(s *state, o *Op) bool {
		return alone(s, o) || o.Shared && !slices.ContainsFunc(s.holds, func(h held) bool { return !h.shared })
	},
	fenced: func(s *state, o *Op) bool {
		if o.Shared {
			return s.writer.before(o)
		}
		return grows(s, o)
	},
}

// Semaphore admits holds of that weight at most in sum. Holds that one release lets in have one token, so it need not
// grow; but it never shrinks.
func Semaphore(limit int64) Model {
	return Model{
		what: "semaphore", limit: limit,
		admit: func(s *state, o *Op) bool {
			sum := max(o.Weight, 1)
			for _, h := range s.holds {
				sum += h.weight
			}
			return sum <= s.limit
		},
		fenced: func(s *state, o *Op) bool { return o.Token >= s.last.token },
	}
}

func alone(s *state, _ *Op) bool { return len(s.holds) == 0 }
func grows(s *state, o *Op) bool { return s.last.before(o) }

// state is that of a lock between two operations. It is not modified once it is made.
type state struct {
	holds  []held // in order of their names
	last   fence  // of all holds so far
	writer fence  // of all exclusive ones
	limit  int64
	first  int64 // the entry that is first in etcd
}

type held struct {
	hold   string
	entry  int64
	shared bool
	weight int64
}

// A fence is the largest token so far, and whose it was.
type fence struct {
	token   int64
	session string
}

func (f fence) before(o *Op) bool {
	return f.token < o.Token || f.token == o.Token && f.session == o.Session
}

func (f fence) raised(o *Op) fence {
	if o.Token < f.token {
		return f
	}
	return fence{o.Token, o.Session}
}

// porcupine is the model as porcupine wants it.
func (m Model) porcupine() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return &state{limit: m.limit} },
		Step: func(s, op, _ any) (bool, any) {
			next := m.step(s.(*state), op.(*Op))
			return next != nil, next
		},
		Equal: func(a, b any) bool {
			x, y := a.(*state), b.(*state)
			return x.last == y.last && x.writer == y.writer && x.limit == y.limit && x.first == y.first && slices.Equal(x.holds, y.holds)
		},
		DescribeOperation: func(op, _ any) string { return op.(*Op).String() },
		DescribeState:     func(s any) string { return s.(*state).String() },
	}
}

// step is the state after an operation, nil if it is not possible.
func (m Model) step(s *state, o *Op) *state {
	next := *s
	switch o.Kind {
	case Acquire:
		if !m.admit(s, o) || !m.fenced(s, o) || m.first && s.first != o.Entry {
			return nil
		}
		next.add(o)
	case Release:
		if !next.remove(o.Hold) {
			return nil
		}
	case Convert:
		// The others stay, and nobody gets between.
		if !next.remove(o.Hold) || !m.admit(&next, o) || !m.fenced(s, o) {
			return nil
		}
		next.add(o)
	case Resize:
		next.limit = o.Limit
	case Read:
		if s.first != o.Entry {
			return nil
		}
	case Lead:
		// Whoever led has stopped before another one is first.
		if s.first != o.before || m.first && len(s.holds) > 0 {
			return nil
		}
		next.first = o.Entry
	}
	return &next
}

func (s *state) add(o *Op) {
	s.holds = append(slices.Clone(s.holds), held{o.Hold, o.Entry, o.Shared, max(o.Weight, 1)})
	slices.SortFunc(s.holds, func(a, b held) int { return strings.Compare(a.hold, b.hold) })
	s.last = s.last.raised(o)
	if !o.Shared {
		s.writer = s.writer.raised(o)
	}
}

func (s *state) remove(hold string) bool {
	i := slices.IndexFunc(s.holds, func(h held) bool { return h.hold == hold })
	if i < 0 {
		return false
	}
	s.holds = slices.Delete(slices.Clone(s.holds), i, i+1)
	return true
}

// String is the state as a report shows it.
func (s *state) String() string {
	var b strings.Builder
	if len(s.holds) == 0 {
		b.WriteString("nobody holds")
	}
	for i, h := range s.holds {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s holds", h.hold)
	}
	fmt.Fprintf(&b, ", last token %d of session %s", s.last.token, s.last.session)
	if s.limit > 0 {
		fmt.Fprintf(&b, ", limit %d", s.limit)
	}
	return b.String()
}
