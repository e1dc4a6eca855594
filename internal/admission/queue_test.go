package admission

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// model is a queue that sessions enter and leave, one write at each revision, and the holds that
// follow from what each session finds when it looks.
type model struct {
	t        require.TestingT
	draw     func(n int) int
	revision int64
	all      []*member // in order of age
	log      []string
}

// member is an entry and what its session knows.
type member struct {
	Entry
	holds    bool  // it was found to be admitted
	writes   bool  // as a writer: it excludes all others
	intends  bool  // it is to become a writer
	boundary int64 // age of the writer that the next write names as the bound; 0 for none
}

const modelLimit = 3

func (m *model) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%3d: ", m.revision)+fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.note(format, args...)
	for _, e := range m.all {
		m.note("%+v", *e)
	}
	require.FailNow(m.t, strings.Join(m.log, "\n"))
}

func (m *model) entries() []Entry {
	all := make([]Entry, len(m.all))
	for i, e := range m.all {
		all[i] = e.Entry
	}
	return all
}

// admitted tells which entries are admitted, by their age.
func (m *model) admitted() map[int64]bool {
	admitted, all := map[int64]bool{}, m.entries()
	for _, e := range all {
		blocker, err := Blocker(e, all)
		if err != nil {
			m.fail("%v for %d", err, e.Created)
		}
		admitted[e.Created] = blocker == None
	}
	return admitted
}

func (m *model) enter() {
	m.revision++
	e := &member{Entry: Entry{Created: m.revision, Modified: m.revision}}
	switch m.draw(5) {
	case 0:
		e.Mode = wire.Exclusive
	case 1, 2:
		e.Mode = wire.Shared
	default:
		e.Mode, e.Limit, e.Permits = wire.Counted, modelLimit, 1+m.draw(modelLimit)
	}
	m.note("enter %q %d", e.Mode, e.Permits)
	m.all = append(m.all, e)
}

func (m *model) leave(e *member) {
	m.revision++
	m.note("%d leaves", e.Created)
	m.all = slices.DeleteFunc(m.all, func(o *member) bool { return o == e })
}

// look grants a hold to a session with an admitted entry, which overtakes no waiter.
func (m *model) look(e *member) {
	admitted := m.admitted()
	if !admitted[e.Created] || e.holds && e.Mode != wire.Upgrading {
		return
	}
	for _, o := range m.all {
		if o.Created < e.Created && !admitted[o.Created] && o.Mode != wire.Upgrading {
			m.fail("%d is admitted past %d", e.Created, o.Created)
		}
	}
	m.note("%d holds", e.Created)
	e.holds, e.intends = true, false
	e.writes = e.Mode == wire.Exclusive || e.Mode == wire.Upgrading
}

// upgrade does one step of the upgrade of a reader.
func (m *model) upgrade(e *member) {
	all := m.entries()
	step, writer, err := NextUpgradeStep(e.Entry, all)
	switch {
	case e.writes || !e.holds || e.Mode == wire.Counted:
		return
	case errors.Is(err, ErrUpgrading):
		m.note("%d takes its intent back", e.Created)
		m.write(e, wire.Shared, 0)
		e.intends, e.boundary = false, 0
	case e.boundary > 0: // read at an earlier revision; the writer must still stand
		if slices.ContainsFunc(all, func(o Entry) bool { return o.Created == e.boundary }) {
			m.note("%d writes the bound %d", e.Created, e.boundary)
			m.write(e, wire.Upgrading, e.boundary)
		}
		e.boundary = 0
	case step == AnnounceIntent:
		m.note("%d announces its intent", e.Created)
		m.write(e, wire.Upgrading, 0)
		e.intends = true
	case step == WriteBound:
		e.boundary = all[writer].Created
	default:
		m.look(e)
	}
}

// write gives an entry another value. It keeps its place.
func (m *model) write(e *member, mode wire.Mode, bound int64) {
	m.revision++
	e.Mode, e.Bound, e.Modified = mode, bound, m.revision
}

func (m *model) downgrade(e *member) {
	if e.holds && e.writes {
		m.note("%d becomes a reader", e.Created)
		m.write(e, wire.Shared, 0)
		e.writes = false
	}
}

// step does one thing, and checks what must be true whatever that was.
func (m *model) step() {
	before := m.admitted()
	if len(m.all) == 0 || m.draw(4) == 0 {
		m.enter()
	} else {
		e := m.all[m.draw(len(m.all))]
		switch m.draw(7) {
		case 0:
			m.leave(e)
		case 1, 2, 3:
			m.look(e)
		case 4, 5:
			m.upgrade(e)
		default:
			m.downgrade(e)
		}
	}
	m.check(before)
}

func (m *model) check(before map[int64]bool) {
	now := m.admitted()
	permits, readers, writers := 0, 0, 0
	for _, e := range m.all {
		if before[e.Created] && !now[e.Created] && e.Mode != wire.Upgrading {
			m.fail("%d was admitted, and is not any more", e.Created)
		}
		switch {
		case !e.holds:
		case e.writes:
			writers++
		case e.Mode == wire.Counted:
			permits += e.Permits
		default:
			readers++
		}
	}
	if writers > 1 || writers == 1 && readers+permits > 0 || readers > 0 && permits > 0 || permits > modelLimit {
		m.fail("%d writers, %d readers and %d permits at one time", writers, readers, permits)
	}
}

// drain lets each session go on until it has held. If no session can, they wait for each other.
func (m *model) drain() {
	for idle := 0; len(m.all) > 0; idle++ {
		if idle > 2 { // rounds; a bound is read in one, and written or dropped in the next
			m.fail("nobody can go on")
		}
		last := m.revision
		for _, e := range slices.Clone(m.all) {
			before := m.admitted()
			m.look(e)
			if e.intends {
				m.upgrade(e)
			}
			if e.holds && !e.intends {
				m.leave(e)
			}
			m.check(before)
		}
		if m.revision > last {
			idle = 0
		}
	}
}

func play(t require.TestingT, draw func(n int) int, steps int) {
	m := &model{t: t, draw: draw}
	for range steps {
		m.step()
		checkLineup(t, m.entries())
	}
	m.drain()
}

// Holders exclude each other as their modes say, no waiter is passed, an entry that is admitted stays
// so, and the queue always moves on, whatever sessions do at which revision.
func TestQueuesOfAllModes(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		play(t, r.IntN, 60)
	}
}

func FuzzQueuesOfAllModes(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		script := make([]byte, 100)
		for i := range script {
			script[i] = byte(r.IntN(256))
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 400)] // longer ones find nothing that short ones do not
		play(t, func(n int) int {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int(b) % n
		}, len(script)/3)
	})
}
