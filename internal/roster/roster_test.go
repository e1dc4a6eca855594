package roster

import (
	"maps"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

type one struct{ index, visits int }

func (o *one) Index() *int { return &o.index }

// counted is a mutex that counts what is done while it is held.
type counted struct {
	sync.Mutex
	visits, most int
	unlocked     func()
}

func (c *counted) Lock() {
	c.Mutex.Lock()
	c.visits = 0
}

func (c *counted) Unlock() {
	c.most = max(c.most, c.visits)
	c.Mutex.Unlock()
	if c.unlocked != nil {
		c.unlocked()
	}
}

func TestAWalkVisitsFewMembersWhileTheMutexIsHeld(t *testing.T) {
	for _, n := range []int{0, 1, Batch, Batch + 1, 10_000} {
		var l List[*one]
		for range n {
			o := new(one)
			l.Add(o)
		}
		var mu counted
		all := make(map[*one]bool)
		l.Walk(&mu, func(o *one) { mu.visits++; all[o] = true })
		require.Len(t, all, n)
		require.LessOrEqual(t, mu.most, Batch)
	}
}

// Between two batches members leave and others come. Each of those that stay is visited.
func TestAWalkMissesNoMemberWhileOthersLeaveAndCome(t *testing.T) {
	const n = 10 * Batch
	var l List[*one]
	stay, leave := make(map[*one]bool), []*one(nil)
	for i := range n {
		o := new(one)
		l.Add(o)
		if i%3 == 0 {
			leave = append(leave, o)
		} else {
			stay[o] = true
		}
	}
	var mu counted
	mu.unlocked = func() {
		for range min(len(leave), Batch/2) {
			l.Remove(leave[0].index)
			leave = leave[1:]
			o := new(one)
			l.Add(o)
		}
	}
	visited := make(map[*one]bool)
	l.Walk(&mu, func(o *one) { visited[o] = true })
	for o := range maps.Keys(stay) {
		require.True(t, visited[o])
	}
	require.Equal(t, n, l.Len())
}

func TestAVisitMayRemoveItsMember(t *testing.T) {
	var l List[*one]
	for range 3 * Batch {
		o := new(one)
		l.Add(o)
	}
	var mu counted
	l.Walk(&mu, func(o *one) {
		require.Zero(t, o.visits)
		o.visits++
		l.Remove(o.index)
	})
	require.Zero(t, l.Len())
}
