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

// deleted are holds that are lost because other clients have deleted their keys, until they are in the log.
// Table.mu guards them.
type deleted struct {
	causes  []error           // in the order in which they were found
	holds   map[string][]loss // by the text of the cause
	due     time.Duration     // when the log may have another line of them, by Table.now
	running bool              // true: a goroutine will log them
}

// Many holds may be lost at one time, as by the deletion of many keys. So the log tells of them once in a while,
// and of many with one cause by one line.
const (
	logSoon = 50 * time.Millisecond
	logNext = time.Second
)

// add adds a hold. It returns true if a goroutine is to log it, after a time.
func (s *deleted) add(lost loss, cause error, now time.Duration) (after time.Duration, start bool) {
	if s.holds == nil {
		s.holds = make(map[string][]loss)
	}
	text := cause.Error()
	if s.holds[text] == nil {
		s.causes = append(s.causes, cause)
	}
	s.holds[text] = append(s.holds[text], lost)
	start, s.running = !s.running, true
	return max(logSoon, s.due-now), start
}

// take returns all of them, and forgets them.
func (s *deleted) take(now time.Duration) (causes []error, holds map[string][]loss) {
	causes, holds = s.causes, s.holds
	*s = deleted{due: now + logNext}
	return causes, holds
}

// willLog has a goroutine log a hold that is lost because another client has deleted its key, unless the session
// has ended.
func (m *Table) willLog(lost loss, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if after, start := m.deleted.add(lost, cause, m.now()); start {
		m.gate.spawn(func() { m.logDeleted(after) })
	}
}

// logDeleted logs after a time, or once the session has ended, what is lost by then.
func (m *Table) logDeleted(after time.Duration) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.cfg.Life.Done():
	}
	m.mu.Lock()
	causes, holds := m.deleted.take(m.now())
	m.mu.Unlock()
	for _, cause := range causes {
		logLost(m.cfg.Log, holds[cause.Error()], cause)
	}
}
