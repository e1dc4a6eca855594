package mixed

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// expiryBound is how long after its TTL a dead holder's lock may go to the next one: etcd
// looks for expired leases every 500 ms; the rest is slack for a machine under load.
const expiryBound = 2 * time.Second

func forEach(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range foreign {
		t.Run(strings.ReplaceAll(k.name, "/", " and "), func(t *testing.T) { test(t, k) })
	}
}

// grows fails the test if b's holder came after a's and its token does not show it.
func (k kind) grows(t *testing.T, a, b *hold, theirs bool) {
	t.Helper()
	if theirs && k.orderOnly && b.order != 0 {
		require.Greater(t, b.order, a.order)
		return
	}
	require.Greater(t, b.token, a.token)
	if a.order != 0 && b.order != 0 {
		require.Greater(t, b.order, a.order)
	}
}

func TestALockGoesBackAndForth(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		w := newWorld(t)
		name := w.name("lock")
		us, them, again := newOurMutex(w, w.client(), name), k.lock(w, name), newOurMutex(w, w.client(), name)
		last := k.lock(w, name)
		w.goesBackAndForth(k, name, us, them, again, last)
	})
}

func TestAnElectionGoesBackAndForth(t *testing.T) {
	forEach(t, func(t *testing.T, k kind) {
		w := newWorld(t)
		name := w.name("election")
		us, again := newOurElection(w, w.client(), name, "a"), newOurElection(w, w.client(), name, "c")
		w.goesBackAndForth(k, name, us, k.elect(w, name, "b"), again, k.elect(w, name, "d"))
	})
}

// goesBackAndForth queues us and them by turns, and lets each have its turn.
func (w *world) goesBackAndForth(k kind, name string, us *ours, them, again, last contender) {
	t := w.t
	first := w.must(us)
	second := start(w.ctx(), them)
	w.waitForKeys(name, 2)
	w.waits(second, waitABit)
	third := start(w.ctx(), again)
	w.waitForKeys(name, 3)
	fourth := start(w.ctx(), last)
	w.waitForKeys(name, 4)
	_, err := etcdlock.NewMutex(us.session, name).TryLock(w.ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked)

	w.release(first)
	b := w.granted(second)
	k.grows(t, first, b, true)
	w.waits(third, waitABit)
	_, err = etcdlock.NewMutex(us.session, name).TryLock(w.ctx())
	require.ErrorIs(t, err, etcdlock.ErrLocked, "they hold")
	w.release(b)
	c := w.granted(third)
	k.grows(t, b, c, false)
	w.waits(fourth, waitABit)
	w.release(c)
	d := w.granted(fourth)
	k.grows(t, c, d, true)
	w.release(d)
	w.waitForKeys(name, 0)
	l, err := etcdlock.NewMutex(us.session, name).TryLock(w.ctx())
	require.NoError(t, err)
	require.Greater(t, l.Token(), d.token)
	require.NoError(t, l.Unlock(w.ctx()))
}

// A mutex of theirs tells the revision of its turn, an election only that of its entry:
// so its revision may be below the token of the one before, and what is compared is
// CreateRevision.
func TestTheRevisionOfTheirElectionIsThatOfTheEntry(t *testing.T) {
	w := newWorld(t)
	name := w.name("election")
	zero := newTheirElection(w, name, "0")
	a, b := newOurElection(w, w.client(), name, "a"), newTheirElection(w, name, "b")
	first := w.must(zero)
	second := start(w.ctx(), a)
	w.waitForKeys(name, 2)
	third := start(w.ctx(), b)
	w.waitForKeys(name, 3)
	w.release(first)
	we := w.granted(second)
	w.release(we)
	they := w.granted(third)
	require.Less(t, they.token, we.token, "if this grows by now, our documentation is behind")
	require.Greater(t, they.order, we.order)
	require.Greater(t, we.order, first.order)
	w.release(they)
}

func us(w *world, name string, election bool) *ours {
	if election {
		return newOurElection(w, w.client(), name, "ours")
	}
	return newOurMutex(w, w.client(), name)
}

func (k kind) theirs(w *world, name string, election bool) contender {
	if election {
		return k.elect(w, name, "theirs")
	}
	return k.lock(w, name)
}

// eachAtOnce runs a test for all kinds and for lock and election at the same time, as
// most of it is waiting for leases to expire.
func eachAtOnce(t *testing.T, test func(w *world, k kind, name string, election bool)) {
	w := newWaitingWorld(t)
	var wg sync.WaitGroup
	for _, k := range foreign {
		for what, election := range map[string]bool{"lock": false, "election": true} {
			name := w.name(strings.ReplaceAll(k.name, "/", "-") + "/" + what)
			wg.Go(func() { test(w, k, name, election) })
		}
	}
	wg.Wait()
}

func TestWhatOurKilledProcessHeldGoesToThem(t *testing.T) {
	eachAtOnce(t, func(w *world, k kind, name string, election bool) {
		p, token, err := w.startProcess(processSettings{Name: name, Election: election})
		if !assert.NoError(t, err, name) {
			return
		}
		next := start(w.ctx(), k.theirs(w, name, election))
		if !w.inLine(name, 2) {
			return
		}
		killed := time.Now()
		p.Kill()
		o := <-next
		if assert.NoError(t, o.err, name) {
			assert.Less(t, o.at.Sub(killed), ttl+expiryBound, name)
			assert.True(t, o.token > token || k.orderOnly && election, name)
			assert.NoError(t, o.release(w.ctx()), name)
		}
	})
}

func TestWhatTheyHeldWhenTheyDiedGoesToUs(t *testing.T) {
	eachAtOnce(t, func(w *world, k kind, name string, election bool) {
		them := k.theirs(w, name, election)
		if u, ok := them.(*leased); ok {
			u.ttl = ttl
		}
		a, err := them.acquire(w.ctx())
		if !assert.NoError(t, err, name) {
			return
		}
		next := start(w.ctx(), us(w, name, election))
		if !w.inLine(name, 2) {
			return
		}
		died := time.Now()
		them.die()
		if k.name == "etcdctl" && election {
			// The command has no flag for the TTL, which is a minute.
			_, err := w.admin.Revoke(w.ctx(), a.lease)
			assert.NoError(t, err)
		}
		o := <-next
		if assert.NoError(t, o.err, name) {
			assert.Less(t, o.at.Sub(died), ttl+expiryBound, name)
			assert.Greater(t, o.token, a.token, name)
			assert.NoError(t, o.release(w.ctx()), name)
		}
	})
}

// Some of the waiters in between die, and their leases expire while the first session holds. The waiter
// behind them is granted at once, and no waiter is granted early.
func TestWaitersOfTheirsThatDieDoNotHoldUpTheLine(t *testing.T) {
	eachAtOnce(t, func(w *world, k kind, name string, election bool) {
		a, err := us(w, name, election).acquire(w.ctx())
		if !assert.NoError(t, err, name) {
			return
		}
		them := k.theirs(w, name, election)
		if u, ok := them.(*leased); ok {
			u.ttl = ttl // of a lease that is not renewed
		}
		dying := start(w.ctx(), them)
		if !w.inLine(name, 2) {
			return
		}
		next := start(w.ctx(), us(w, name, election))
		if !w.inLine(name, 3) {
			return
		}
		switch c := them.(type) {
		case *theirs:
			c.session.Orphan()
		case *commands:
			c.die()
			if election {
				w.revokeSecond(name)
			}
		}
		if !w.inLine(name, 2) { // it has expired
			return
		}
		select {
		case o := <-next:
			assert.Fail(t, "granted past the holder", "%s: %v", name, o.err)
			return
		case <-time.After(100 * time.Millisecond):
		}
		released := time.Now()
		assert.NoError(t, a.release(w.ctx()), name)
		o := <-next
		if assert.NoError(t, o.err, name) {
			assert.Less(t, o.at.Sub(released), time.Second, name)
			assert.Greater(t, o.token, a.token, name)
			assert.NoError(t, o.release(w.ctx()), name)
		}
		// What the dead one was told does not matter; that it does not hold us up does.
		if d := <-dying; d.err == nil {
			assert.NoError(t, d.release(w.ctx()), name)
		}
	})
}

// Cut off from etcd we know by the deadline, which is before they can have it.
func TestWhoIsCutOffIsToldBeforeTheyHold(t *testing.T) {
	eachAtOnce(t, func(w *world, k kind, name string, election bool) {
		c, proxy := w.proxied()
		o := newOurMutex(w, c, name)
		if election {
			o = newOurElection(w, c, name, "ours")
		}
		a, err := o.acquire(w.ctx())
		if !assert.NoError(t, err, name) {
			return
		}
		told := make(chan time.Time, 1)
		go func() {
			<-a.ended
			told <- time.Now()
		}()
		next := start(w.ctx(), k.theirs(w, name, election))
		if !w.inLine(name, 2) {
			return
		}
		proxy.Hold()
		granted, at := <-next, <-told
		if assert.NoError(t, granted.err, name) {
			assert.True(t, at.Before(granted.at), "%s: told %v after they held", name, at.Sub(granted.at))
			t.Logf("figure: %s: told %v before they held", name, granted.at.Sub(at).Round(time.Millisecond))
			assert.NoError(t, granted.release(w.ctx()), name)
		}
		proxy.Drop()
		proxy.Resume()
		// The session goes on.
		b, err := o.acquire(w.ctx())
		if assert.NoError(t, err, name) {
			assert.Greater(t, b.token, granted.token, name)
			assert.NoError(t, b.release(w.ctx()), name)
		}
	})
}
