package mixed

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/internal/procs"
	"github.com/etcdlock/etcdlock/internal/revision"
	"github.com/etcdlock/etcdlock/test/internal/env"
)

// pinnedRevision is the one that processes of this tree are to get on with, unless
// ETCDLOCK_MIXED_BASE names another one.
const pinnedRevision = "baacad71f3f20350dcd937cd9c9d1c58db14c316"

const mates = 4 // two of either revision; the capacity of the mate program

// mateDir is removed at the end of all tests. It does not lie in memory, where programs may not be run.
var mateDir, diskTemp = "", os.TempDir()

// mateBinaries are the mate program with the library of the other revision, and with that of this tree.
var mateBinaries = sync.OnceValues(func() ([2]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var err error
	if mateDir, err = os.MkdirTemp(diskTemp, "etcdlock-revisions-"); err != nil {
		return [2]string{}, err
	}
	then, now, err := revision.Build(ctx, mateDir, otherRevision(), "test", "mixed/mate")
	return [2]string{then, now}, err
})

func otherRevision() string { return cmp.Or(os.Getenv("ETCDLOCK_MIXED_BASE"), pinnedRevision) }

// Processes of another revision and of this tree stand on one name, and are killed, stopped and
// cut off. Never is more held than there is, each of them has its turn when that is over, and
// nothing stays in etcd.
func TestRevisions(t *testing.T) {
	binaries, err := mateBinaries()
	if errors.Is(err, revision.ErrUnknown) && os.Getenv("ETCDLOCK_MIXED_BASE") == "" {
		t.Skipf("the older revision is not here: %v", err)
	}
	require.NoError(t, err)
	for _, primitive := range []string{"Mutex", "RWMutex", "Semaphore", "Election"} {
		t.Run(primitive, func(t *testing.T) {
			w := newWaitingWorld(t)
			f := &revisionFleet{w: w, primitive: primitive, binaries: binaries, name: w.name("q")}
			f.run(int(env.Number(t, "ETCDLOCK_MIXED_OPS", 60) / 10))
		})
	}
}

// revisionFleet is a fleet of mates.
type revisionFleet struct {
	w         *world
	primitive string
	name      string
	binaries  [2]string
	all       []*mate // those that were killed too
}

// mate is one process.
type mate struct {
	*procs.Child
	place int // 0 and 2 are of the other revision, 1 and 3 of this tree
	proxy *faultproxy.Proxy
	stdin io.Closer
	read  chan struct{} // closed when all that it has said is in turns

	mu    sync.Mutex
	turns []*mateTurn
}

// mateTurn is a hold of a mate, by the clock of all mates.
type mateTurn struct {
	of              *mate
	from, to, until int64 // to is 0 without the end of it
	token           int64
	weight          int
}

// end is until when the mate believed that it holds.
func (t *mateTurn) end() int64 {
	if t.to == 0 {
		return t.until
	}
	return min(t.to, t.until)
}

func (f *revisionFleet) start(place int) *mate {
	t := f.w.t
	m := &mate{place: place, proxy: f.w.faults(), read: make(chan struct{})}
	cmd := exec.Command(f.binaries[place%2], strings.Join(m.proxy.Endpoints(), ","), f.primitive, f.name)
	cmd.Stderr = os.Stderr
	p, stdin, stdout, err := kids.Talk(cmd)
	require.NoError(t, err)
	m.Child, m.stdin = p, stdin
	t.Cleanup(func() {
		p.Kill()
		_ = stdin.Close()
		_ = stdout.Close()
	})
	go m.listen(stdout)
	f.all = append(f.all, m)
	return m
}

func (m *mate) listen(stdout io.Reader) {
	defer close(m.read)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var what string
		var at, token int64
		var weight int
		_, _ = fmt.Sscan(lines.Text(), &what, &at, &token, &weight) // only "holds" has all of it
		m.mu.Lock()
		last := len(m.turns) - 1
		switch {
		case what == "holds":
			m.turns = append(m.turns, &mateTurn{of: m, from: at, token: token, weight: weight})
		case what == "until" && last >= 0:
			m.turns[last].until = at
		case what == "over" && last >= 0:
			m.turns[last].to = at
		}
		m.mu.Unlock()
	}
}

func (m *mate) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.turns)
}

// run lets the mates work under faults, and judges them.
func (f *revisionFleet) run(faults int) {
	t := f.w.t
	seed := env.Number(t, "ETCDLOCK_MIXED_SEED", rand.Uint64N(1e6))
	t.Logf("ETCDLOCK_MIXED_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	living := make([]*mate, mates)
	for place := range living {
		living[place] = f.start(place)
	}
	f.eachHasATurn(living)
	kinds := map[string]int{}
	for n := range faults {
		// Of either revision by turns, and each kind in each six.
		place := n%2 + 2*r.IntN(mates/2)
		kinds[f.harm(living, place, n/2%3, r)]++
		time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
	}
	f.eachHasATurn(living)
	for _, m := range living {
		_ = m.stdin.Close()
	}
	for _, m := range living {
		receiveClosed(t, m.Gone(), "the end of a process")
		assert.NoError(t, m.Err())
	}
	turns := f.judge()
	t.Logf("%s: %d faults %v, %d turns of %.8s and %d of this tree", f.primitive, faults, kinds, turns[0], otherRevision(), turns[1])
}

// eachHasATurn waits until each of the mates has had another turn.
func (f *revisionFleet) eachHasATurn(living []*mate) {
	f.w.t.Helper()
	for _, m := range living {
		before := m.count()
		require.Eventually(f.w.t, func() bool { return m.count() > before }, time.Minute, 5*time.Millisecond,
			"a process of revision %d waits for ever", m.place%2)
	}
}

// harm does something bad to one of them.
func (f *revisionFleet) harm(living []*mate, place, kind int, r *rand.Rand) string {
	t, m := f.w.t, living[place]
	away := time.Duration(r.Int64N(int64(ttl + time.Second)))
	switch kind {
	case 0:
		m.Kill()
		living[place] = f.start(place)
		return "killed"
	case 1:
		require.NoError(t, m.Signal(syscall.SIGSTOP))
		time.Sleep(away)
		require.NoError(t, m.Signal(syscall.SIGCONT))
		return "stopped"
	default:
		m.proxy.Hold()
		time.Sleep(away)
		if r.IntN(2) == 0 {
			m.proxy.Drop() // what was on the way is lost
		}
		m.proxy.Resume()
		return "cut off"
	}
}

// judge fails the test if more was held at one time than there is, or a token did not grow. It
// returns how many turns there were of either revision.
func (f *revisionFleet) judge() (turns [2]int) {
	t := f.w.t
	var all []*mateTurn
	for _, m := range f.all {
		receiveClosed(t, m.read, "the last word of a process")
		for _, turn := range m.turns {
			if turn.end() > turn.from { // else the process was stopped when it began
				all = append(all, turn)
				turns[m.place%2]++
			}
		}
	}
	require.Positive(t, turns[0])
	require.Positive(t, turns[1])
	for _, violation := range violations(all, f.primitive == "Mutex" || f.primitive == "Election") {
		assert.Fail(t, "violation", violation)
	}
	return turns
}

// violations are the turns that should not have been. Exclusive ones have tokens that grow.
func violations(all []*mateTurn, exclusive bool) (found []string) {
	slices.SortFunc(all, func(a, b *mateTurn) int { return cmp.Compare(a.from, b.from) })
	var held []*mateTurn
	for i, turn := range all {
		held = slices.DeleteFunc(held, func(h *mateTurn) bool { return h.end() <= turn.from })
		sum := turn.weight
		for _, h := range held {
			sum += h.weight
		}
		if sum > mates {
			found = append(found, fmt.Sprintf("%v began beside %v", turn, held))
		}
		held = append(held, turn)
		if i > 0 && exclusive && turn.of != all[i-1].of && turn.token <= all[i-1].token {
			found = append(found, fmt.Sprintf("the token of %v is not larger than that of %v", turn, all[i-1]))
		}
	}
	return found
}

func TestTheViolationsOfAFleetOfTwoRevisions(t *testing.T) {
	a, b := &mate{}, &mate{place: 1}
	turn := func(of *mate, from, to, until, token int64, weight int) *mateTurn {
		return &mateTurn{of: of, from: from, to: to, until: until, token: token, weight: weight}
	}
	for what, c := range map[string]struct {
		turns []*mateTurn
		want  int
	}{
		"one after the other":      {[]*mateTurn{turn(a, 1, 5, 90, 7, mates), turn(b, 5, 9, 99, 8, mates)}, 0},
		"both at a time":           {[]*mateTurn{turn(a, 1, 6, 90, 7, mates), turn(b, 5, 9, 99, 8, mates)}, 1},
		"beside one that was dead": {[]*mateTurn{turn(a, 1, 0, 5, 7, mates), turn(b, 5, 9, 99, 8, mates)}, 0},
		"before the deadline":      {[]*mateTurn{turn(a, 1, 0, 6, 7, mates), turn(b, 5, 9, 99, 8, mates)}, 1},
		"stopped, and told late":   {[]*mateTurn{turn(a, 1, 8, 5, 7, mates), turn(b, 5, 9, 99, 8, mates)}, 0},
		"a smaller token":          {[]*mateTurn{turn(a, 1, 5, 90, 8, mates), turn(b, 5, 9, 99, 7, mates)}, 1},
		"two who share":            {[]*mateTurn{turn(a, 1, 6, 90, 7, 1), turn(b, 5, 9, 99, 8, mates-1)}, 0},
		"more than there is":       {[]*mateTurn{turn(a, 1, 6, 90, 7, 2), turn(b, 5, 9, 99, 8, mates-1)}, 1},
	} {
		require.Len(t, violations(c.turns, true), c.want, what)
	}
}

func (t *mateTurn) String() string {
	return fmt.Sprintf("a turn of revision %d with %d of %d, token %d, for %v", t.of.place%2, t.weight, mates, t.token, time.Duration(t.end()-t.from))
}
