package history

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// A Model is what a primitive allows. In all models a token never shrinks from one holder to the next. It is equal only for
// holders of one session, which hand over in memory.
type Model struct {
	what  string
	limit int64 // of a semaphore at its beginning
	// admit reports whether a hold may begin, or be converted, beside the present holds.
	admit func(s *state, o *Op) bool
	// fenced reports whether the token of the hold is legal.
	fenced func(s *state, o *Op) bool
	// first is true if a hold must be first in etcd from its beginning to its end.
	first bool
}

// Mutex has one holder at a time.
var Mutex = Model{what: "mutex", admit: alone, fenced: grows}

// Election has one leader at a time. A Read returns the candidate that is first in etcd at that time, or none. A leader is
// first for as long as it leads. The model needs evidence, and fits a mutex too.
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

// Semaphore admits holds with a sum of weights up to the limit. Holds that one release admits share a token, so the token
// need not grow, but it never shrinks.
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

// state is the state of a lock between two operations. It is immutable.
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

// A fence is the largest token so far, with its session.
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

// porcupine returns the model in porcupine's form.
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

// step returns the state after an operation, nil if the operation is not legal.
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
		// The other holds stay, and no hold begins in between.
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
		// The former leader has stopped before another candidate is first.
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

// String returns the state for a report.
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
