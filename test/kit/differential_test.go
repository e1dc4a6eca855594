// Package kit compares the two etcds of etcdlocktest.
package kit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
)

// The same schedules on the etcd in memory and on a real one tell the same story: the grants in their
// order, and the losses with their reasons. ETCDLOCK_KIT_SCHEDULES is the number of schedules, from
// ETCDLOCK_SEED on.
func TestTheEtcdInMemoryTellsTheStoryOfARealOne(t *testing.T) {
	first, schedules := number(t, "ETCDLOCK_SEED", 0), number(t, "ETCDLOCK_KIT_SCHEDULES", 5)
	real := etcdlocktest.Real(t)
	sum := map[string]int{}
	for seed := first; seed < first+schedules; seed++ {
		var want []string
		etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) { want = play(t, etcd, seed) })
		got := play(t, real, seed)
		if !slices.EqualFunc(want, got, same) {
			require.Equal(t, want, got, "schedule %d: in memory, and on a real etcd", seed)
		}
		if !slices.Equal(want, got) {
			sum["reasons-not-told"]++
		}
		for _, line := range want {
			what, _, _ := strings.Cut(line, " ")
			sum[what]++
		}
		if seed%50 == 49 {
			t.Logf("%d schedules", seed+1)
		}
	}
	t.Logf("%d schedules with the same story: %v", schedules, sum)
}

// number is a variable of the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	require.NoError(t, err, name)
	return n
}

// same compares a line of the story in memory with that of the real etcd. A busy etcd may not answer in
// time whether a key was deleted alone or with its lease, and the error says so.
func same(want, got string) bool {
	event, notTold := strings.CutSuffix(got, untold)
	return want == got || notTold && (want == event+etcdlock.ErrEvicted.Error() || want == event+etcdlock.ErrRevoked.Error())
}

// untold stands for an eviction or a revocation.
const untold = "its key was deleted, alone or with its lease"

const (
	processes = 3
	names     = 2
	steps     = 12
)

// actor is what one process does with one name.
type actor struct {
	process *process
	name    string
	pending chan result // of a call under way; nil if there is none
	cancel  context.CancelFunc
	lock    *etcdlock.Lock // nil if it holds nothing
}

type result struct {
	lock *etcdlock.Lock
	err  error
}

type process struct {
	*etcdlocktest.Process
	short   string
	session *etcdlock.Session
}

// schedule is one run of a schedule.
type schedule struct {
	t      *testing.T
	etcd   *etcdlocktest.Etcd
	actors []*actor
	story  []string
	tokens map[string]int64 // the largest, by name
}

// play plays a schedule and returns its story.
func play(t *testing.T, etcd *etcdlocktest.Etcd, seed uint64) []string {
	t.Helper()
	s := &schedule{t: t, etcd: etcd, tokens: map[string]int64{}}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range processes {
		p := &process{Process: etcd.Process(fmt.Sprintf("%d-%c", seed, 'a'+i)), short: string(rune('a' + i))}
		// No session loses a lease because the machine is busy.
		p.session = p.Session(etcdlock.WithOwner(p.short), etcdlock.WithTTL(2*time.Minute))
		for n := range names {
			s.actors = append(s.actors, &actor{process: p, name: fmt.Sprintf("schedule-%d/%c", seed, 'x'+n)})
		}
	}
	for range steps {
		s.step(r, s.actors[r.IntN(len(s.actors))])
	}
	for _, a := range s.actors {
		s.giveUp(a)
	}
	for _, a := range s.actors {
		s.unlock(a)
	}
	for _, a := range s.actors {
		require.NoError(t, a.process.session.Close(t.Context()))
	}
	etcd.NothingLeft()
	for _, a := range s.actors {
		a.process.Kill() // a thousand schedules share the real etcd
	}
	return s.story
}

// step draws what happens to an actor.
func (s *schedule) step(r *rand.Rand, a *actor) {
	switch n := r.IntN(20); {
	case a.lock == nil && a.pending == nil && n < 4:
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
		defer cancel()
		lock, err := etcdlock.NewMutex(a.process.session, a.name, etcdlock.WithTimeSlice(0)).TryLock(ctx)
		s.returned("try", a, result{lock, err})
	case a.lock == nil && a.pending == nil:
		if n == 4 {
			a.process.LoseNextReply(etcdlocktest.KindWrite)
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
		a.pending, a.cancel = make(chan result, 1), cancel
		go func(pending chan result) {
			lock, err := etcdlock.NewMutex(a.process.session, a.name, etcdlock.WithTimeSlice(0)).Lock(ctx)
			pending <- result{lock, err}
		}(a.pending)
		s.settle("lock", a)
	case a.pending != nil:
		s.giveUp(a)
	case n < 4:
		s.etcd.Evict(a.name)
		s.settle("evict", a)
	case n < 7:
		s.etcd.Revoke(a.name)
		s.settle("revoke", a)
	case n < 10:
		s.etcd.Expire(a.name)
		s.settle("expire", a)
	default:
		s.unlock(a)
	}
}

func (s *schedule) giveUp(a *actor) {
	if a.pending != nil {
		a.cancel()
		r := <-a.pending
		s.returned("give-up", a, r)
		s.settle("gave-up", a)
	}
}

func (s *schedule) unlock(a *actor) {
	if a.lock != nil {
		require.NoError(s.t, a.lock.Unlock(s.t.Context()))
		a.lock = nil
		s.settle("unlock", a)
	}
}

func (s *schedule) tell(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf(format, args...))
}

// returned takes the result of a call.
func (s *schedule) returned(what string, a *actor, r result) {
	a.pending = nil
	if r.err != nil {
		s.tell("%s of %s for %s: %s", what, a.process.short, a.name, reason(r.err))
		return
	}
	a.lock = r.lock
	require.Greater(s.t, r.lock.Token(), s.tokens[a.name], "tokens grow from holder to holder")
	s.tokens[a.name] = r.lock.Token()
	s.tell("grant by %s to %s of %s", what, a.process.short, a.name)
}

func reason(err error) string {
	if errors.Is(err, etcdlock.ErrEvicted) && strings.Contains(err.Error(), "etcd has not answered in time which") {
		return untold
	}
	for _, known := range []error{
		etcdlock.ErrLocked, etcdlock.ErrExpired, etcdlock.ErrRevoked, etcdlock.ErrEvicted, etcdlock.ErrReleased, context.Canceled,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

// settle waits until each process has learnt what is so in etcd, and tells it.
func (s *schedule) settle(what string, of *actor) {
	s.t.Helper()
	began := len(s.story)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.learn()
		queues, settled := s.queues()
		if settled {
			// Both are known by now, in an order that depends on when this was looked at.
			slices.SortFunc(s.story[began:], func(a, b string) int {
				if lossA, lossB := strings.HasPrefix(a, "loss"), strings.HasPrefix(b, "loss"); lossA != lossB {
					return map[bool]int{true: -1, false: 1}[lossA]
				}
				return strings.Compare(a, b)
			})
			s.tell("after %s of %s for %s: %s", what, of.process.short, of.name, queues)
			return
		}
		if time.Now().After(end) {
			require.FailNow(s.t, "it does not settle", "%s\n%s", strings.Join(s.story, "\n"), s.etcd.Dump())
		}
	}
}

// learn notes what was granted and lost, in the order of the actors.
func (s *schedule) learn() {
	for _, a := range s.actors {
		select {
		case r := <-a.pending:
			s.returned("wait", a, r)
		default:
		}
		if a.lock != nil && a.lock.Err() != nil {
			s.tell("loss by %s of %s: %s", a.process.short, a.name, reason(a.lock.Err()))
			a.lock = nil
		}
	}
}

// queues describes the queues of all names. They are settled when each entry is of a process that
// knows it, and the first one holds.
func (s *schedule) queues() (text string, settled bool) {
	var all []string
	for _, a := range s.actors {
		if a.process.session.State() != etcdlock.StateConnected {
			return "", false // it has no lease yet
		}
	}
	for _, name := range []string{s.actors[0].name, s.actors[1].name} {
		var want []string
		var holder string
		for _, a := range s.actors {
			if a.name == name && (a.pending != nil || a.lock != nil) {
				want = append(want, a.process.short)
			}
			if a.name == name && a.lock != nil {
				holder = a.process.short
			}
		}
		entries, err := etcdlock.NewMutex(s.actors[0].process.session, name).Queue(s.t.Context())
		require.NoError(s.t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Owner)
		}
		if len(got) > 0 && got[0] != holder {
			return "", false
		}
		all = append(all, strings.Join(got, ","))
		slices.Sort(got)
		if !slices.Equal(want, got) {
			return "", false
		}
	}
	return strings.Join(all, " | "), true
}
