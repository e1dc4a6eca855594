package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// other is the want of an entry with the other one of the two marked keys.
func (p *party) other() Want {
	w := p.want()
	if p.entry.Key == wire.SlotKey("q", p.lease, w.Slot) {
		w.Slot = wire.MarkedSlot(1)
	}
	return w
}

// again leaves and enters by one transaction, and waits.
func (p *party) again() {
	p.Helper()
	deleted, e, err := p.LeaveAndEnter(p.ctx, p.entry, p.other())
	require.NoError(p, err, p.name)
	require.True(p, deleted, p.name)
	require.NotNil(p, e, p.name)
	p.entry = e
	p.wait()
}

// onlyLeaves leaves, though it is to enter again.
func (p *party) onlyLeaves() {
	p.Helper()
	deleted, e, err := p.LeaveAndEnter(p.ctx, p.entry, p.other())
	require.NoError(p, err, p.name)
	require.True(p, deleted, p.name)
	require.Nil(p, e, p.name)
}

// Sessions that enter again send one request for each grant, but for lists, and keep their order.
func TestAReleaseEntersAgainByTheSameTransaction(t *testing.T) {
	simulate(t, func(r *rig) {
		names := []string{"a", "b", "c", "d"}
		all := r.lineUp(names...)
		last := int64(0)
		for n := range 20 {
			p := all[names[n%4]]
			token := p.holds(soon)
			require.Greater(r, token, last)
			last = token
			p.client.ResetCounts()
			p.again()
			require.Equal(r, 1, p.client.Count(simetcd.Txn))
			require.LessOrEqual(r, p.client.Count(), 2)
			require.Len(r, r.Keys("q/"), 4)
			p.waits()
		}
		for _, name := range names {
			all[name].holds(soon)
			all[name].leave()
		}
		require.Empty(r, r.Keys("q/"))
	})
}

func TestAReleaseOfAnEntryThatIsAloneIsAGrant(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.lineUp("a")["a"]
		first := a.holds(soon)
		a.again()
		require.True(r, a.entry.First())
		require.Greater(r, a.holds(soon), first)
		a.leave()
		require.Empty(r, r.Keys("q/"))
	})
}

// Nothing is told to unmarked entries, and they are ahead nevertheless.
func TestAnEntryAgainBehindUnmarkedOnesLooks(t *testing.T) {
	for _, n := range []int{1, longestList + 1} {
		simulate(t, func(r *rig) {
			a := r.lineUp("a")["a"]
			first := a.holds(soon)
			all := r.lineUp(points(n)...)
			a.again()
			for _, name := range points(n) {
				all[name].holds(soon)
				a.waits()
				all[name].leave()
			}
			require.Greater(r, a.holds(soon), first)
			a.leave()
		})
	}
}

// The entries at the end of a queue leave while a release goes through its lists, so the last list is empty.
func TestAnEntryAgainIsNotAloneBehindAnEarlierList(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.lineUp("a")["a"]
		a.holds(soon)
		names := points(longestList + 1)
		all := r.lineUp(names...)
		refused := r.on("a", simetcd.Txn)
		go func() {
			<-refused
			all[names[longestList]].cancel()
			all[names[longestList]].leave()
		}()
		a.again()
		require.False(r, a.entry.First())
		all[names[0]].holds(soon)
		a.waits()
	})
}

// The answer is lost. What stands is found, and looks for itself, because it may have been told something.
func TestAReleaseThatEntersAgainWithoutAnAnswer(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a, b := all["a"], all["b"]
		a.holds(soon)
		r.loses("a", simetcd.Txn)
		w := a.other()
		_, e, err := a.LeaveAndEnter(r.ctx, a.entry, w)
		require.Error(r, err)
		require.Nil(r, e)
		require.NoError(r, a.Leave(r.ctx, a.entry, true))
		b.holds(soon)
		a.entry, _, err = a.Enter(r.ctx, w)
		require.NoError(r, err)
		require.True(r, a.entry.Adopted())
		require.False(r, a.entry.asleep)
		a.wait()
		a.waits()
		b.leave()
		a.holds(soon)
		a.leave()
		require.Empty(r, r.Keys("q/"))
	})
}

// A key that another client has deleted gives no right to another place.
func TestAReleaseOfADeletedKeyDoesNotEnterAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a, b := all["a"], all["b"]
		a.holds(soon)
		r.DeleteKey(a.entry.Key)
		deleted, e, err := a.LeaveAndEnter(r.ctx, a.entry, a.other())
		require.NoError(r, err)
		require.False(r, deleted)
		require.Nil(r, e)
		b.holds(soon)
		require.Len(r, r.Keys("q/"), 1)
	})
}

// A release does not wait for the key that it would write.
func TestAReleaseDoesNotEnterAgainWhereItsKeyStands(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a, b := all["a"], all["b"]
		a.holds(soon)
		stands := wire.SlotKey("q", a.lease, wire.MarkedSlot(1))
		r.PutKey(stands, "", a.lease)
		a.onlyLeaves()
		b.holds(soon)
		b.leave()
		require.Len(r, r.Keys("q/"), 1)
	})
}

// An entry that could not be told anything does not enter.
func TestAReleaseDoesNotEnterAgainWithoutAnInbox(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a, b := all["a"], all["b"]
		a.holds(soon)
		a.Queue.Close()
		a.onlyLeaves()
		b.holds(soon)
		require.Len(r, r.Keys("q/"), 1)
	})
}

// While nobody is behind, the inbox stays for the entry that comes again.
func TestAReleaseThatEntersAgainKeepsItsInbox(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.lineUp("a")["a"]
		a.holds(soon)
		a.again()
		a.holds(soon)
		b := r.lineUp("b")["b"]
		a.again()
		b.holds(soon)
		a.client.ResetCounts()
		time.Sleep(soon)
		b.leave()
		a.holds(soon)
		require.Zero(r, a.client.Count(), "it was told")
	})
}

// The next entry is another one of the session, and has the same inbox. A transaction writes a key only once.
func TestAReleaseThatTellsItsOwnSessionDoesNotEnterAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.lineUp("a")["a"]
		token := a.holds(soon)
		next, _, err := a.Enter(r.ctx, a.other())
		require.NoError(r, err)
		a.client.ResetCounts()
		a.onlyLeaves()
		require.Equal(r, 1, a.client.Count(simetcd.Txn))
		a.entry = next
		a.wait()
		require.Greater(r, a.holds(soon), token)
		a.leave()
		require.Empty(r, r.Keys("q/"))
	})
}
