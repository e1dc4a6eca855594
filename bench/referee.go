package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// stay is one hold of a lock, as its holder saw it: from after Lock had returned to
// before Unlock was called, on the clock that all processes share.
type stay struct {
	Start, End int64
	Token      int64
	Process    int
}

// verdict is what the referee found.
type verdict struct {
	Holds    int           `json:"holds"`
	Overlaps int           `json:"overlaps"`
	Worst    time.Duration `json:"worst_overlap"`
	Stale    int           `json:"stale_tokens"`
	First    string        `json:"first,omitempty"` // the first offence, in words
}

func (v verdict) ok() bool { return v.Overlaps == 0 && v.Stale == 0 }

// add is for the verdicts of many names.
func (v verdict) add(w verdict) verdict {
	if v.First == "" {
		v.First = w.First
	}
	v.Holds += w.Holds
	v.Overlaps += w.Overlaps
	v.Worst = max(v.Worst, w.Worst)
	v.Stale += w.Stale
	return v
}

// judge checks the holds of one lock. No two may overlap, except between processes by less
// than blur, because their clock readings can differ by that much. A token must be larger
// than the tokens of all earlier holders in other processes. Holders in one process may
// share a token, but it must not decrease.
func judge(stays []stay, blur time.Duration, tokens bool) verdict {
	slices.SortFunc(stays, func(a, b stay) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
	})
	v := verdict{Holds: len(stays)}
	if len(stays) == 0 {
		return v
	}
	last := stays[0] // the stay with the latest end among all that have begun
	var high marks
	for i, s := range stays {
		if i > 0 {
			unsure := blur
			if s.Process == last.Process {
				unsure = 0
			}
			// However short a stay is: in between another one's is in between.
			over := time.Duration(last.End-s.Start) - unsure
			if over > 0 && time.Duration(s.End-last.Start) > unsure {
				v.Overlaps++
				v.Worst = max(v.Worst, over)
				v.offence("process %d entered %v before process %d had left", s.Process, over, last.Process)
			}
			if s.End > last.End {
				last = s
			}
		}
		if tokens {
			if own, others := high.before(s.Process); s.Token < own || s.Token <= others {
				v.Stale++
				v.offence("process %d has token %d after tokens %d of its own and %d of others", s.Process, s.Token, own, others)
			}
			high.note(s)
		}
	}
	return v
}

func (v *verdict) offence(format string, args ...any) {
	if v.First == "" {
		v.First = fmt.Sprintf(format, args...)
	}
}

// marks are the highest tokens so far.
type marks struct {
	of     map[int]int64 // by process
	top    stay          // the highest of all
	second int64         // the highest of all processes but that of top
}

// before tells the highest token of a process, and that of all others.
func (m *marks) before(process int) (own, others int64) {
	if m.of == nil {
		m.of = map[int]int64{}
		m.top.Token, m.second = math.MinInt64, math.MinInt64
	}
	own, known := m.of[process]
	if !known {
		own = math.MinInt64
	}
	if process == m.top.Process {
		return own, m.second
	}
	return own, m.top.Token
}

func (m *marks) note(s stay) {
	if known, ok := m.of[s.Process]; !ok || s.Token > known {
		m.of[s.Process] = s.Token
	}
	switch {
	case s.Token <= m.top.Token:
		if s.Process != m.top.Process {
			m.second = max(m.second, s.Token)
		}
	case s.Process == m.top.Process:
		m.top = s
	default:
		m.second, m.top = m.top.Token, s
	}
}
