package local

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// MostLost is how many lost holds are named in one line of the log.
const MostLost = 10

// losses are the ownerships that were held when the present lease ended. Table.mu guards them.
type losses struct{ noted []loss }

func (s *losses) add(o loss) { s.noted = append(s.noted, o) }

// take returns all of them, and forgets them.
func (s *losses) take() (all []loss) {
	all, s.noted = s.noted, nil
	return all
}

// describe describes lost ownerships for the log, the oldest first.
func describe(all []loss) []string {
	var told []string
	slices.SortFunc(all, func(a, b loss) int { return cmp.Compare(a.token, b.token) })
	for i, o := range all {
		if i == MostLost {
			return append(told, fmt.Sprintf("and %d more", len(all)-i))
		}
		told = append(told, o.String())
	}
	return told
}

// evictions are the keys that were found deleted, before their holders know why. Table.mu guards them.
type evictions struct {
	found   []Deletion
	at      time.Time // when the first of them was found
	running bool      // true: Config.Explain runs
}

// add returns true if Config.Explain is to be started.
func (s *evictions) add(d Deletion) (start bool) {
	if len(s.found) == 0 {
		s.at = time.Now()
	}
	start = !s.running
	s.found, s.running = append(s.found, d), true
	return start
}

// take returns all of them, and when the first was found. If there are none, Config.Explain is to end.
func (s *evictions) take() (all []Deletion, at time.Time) {
	all = s.found
	s.found, s.running = nil, len(all) > 0
	return all, s.at
}
