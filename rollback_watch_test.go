package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// happensAtOnce replaces the data of etcd between two requests, as where an address leads to
// another cluster from now on.
func (r rollback) happensAtOnce() {
	r.w.Stop()
	r.w.Restore(r.snap, simetcd.Restored{})
	r.w.Start()
}

// report R5: a watch that begins at a smaller revision than expected makes the session ask. The
// renewals of a long lease would show the rollback much later.
func TestTheFirstWatchAfterARollbackShowsIt(t *testing.T) {
	long := WithTTL(time.Minute)
	t.Run("by the watch of a young hold", func(t *testing.T) {
		eachRollback(t, func(w *world) { w.session("a", long) }, func(w *world, r rollback) {
			l := w.lock(NewMutex(w.sessions[0], "x"))
			r.happensAtOnce()
			w.untilLost(l, time.Second)
		})
	})
	t.Run("by the watch of an observer", func(t *testing.T) {
		prepare := func(w *world) { w.session("o", long, watchOn(w.Client("o"))) }
		eachRollback(t, prepare, func(w *world, r rollback) {
			o := w.observe(NewElection(w.sessions[0], "e"), 0)
			w.campaign(NewElection(w.session("a"), "e"), "A")
			w.pass(time.Second)
			r.happensAtOnce()
			w.campaign(NewElection(w.session("b"), "e"), "B")
			w.pass(2 * time.Second)
			seen := o.all()
			require.Equal(w, "B", seen[len(seen)-1].Value)
		})
	})
}

// report R5: a wait does not rely on a watch that was opened before the rollback, and that will be
// silent until the revisions of that time are passed.
func TestAWaitAfterARollbackHasItsOwnWatch(t *testing.T) {
	eachRollback(t, func(w *world) { w.session("a"); w.session("b") }, func(w *world, r rollback) {
		m := NewMutex(w.sessions[0], "x")
		w.lock(NewMutex(w.sessions[1], "x"))
		wait := start(w, m.Lock)
		w.pass(4 * time.Second) // readings are rare by now, so a renewal shows the rollback before a reading does
		r.happensAtOnce()
		c := w.session("c")
		held := w.lock(NewMutex(c, "x"))
		wait.fails(ErrRolledBack)
		wait = start(w, m.Lock)
		w.pass(500 * time.Millisecond)
		require.Len(w, w.Keys("x/"), 2)
		released := time.Now()
		require.NoError(w, held.Unlock(w.ctx))
		wait.get()
		require.Less(w, wait.at.Sub(released), 100*time.Millisecond)
	})
}
