package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// report E7
func TestALeaderThatMayHaveGivenUpDuringAnOutageIsMarked(t *testing.T) {
	simulate(t, func(w *world) {
		a, o := w.session("a"), w.session("o")
		e := NewElection(o, "e")
		seen := w.observe(e, 0)
		term := w.campaign(NewElection(a, "e"), "A")
		w.pass(time.Second)
		w.Stop()
		w.pass(18 * time.Second)
		require.ErrorIs(w, term.Err(), ErrExpired, "it gave up, 9 s ago")
		w.Client("a").Cut() // and cannot say so
		w.Start()

		leader, err := e.Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "A", leader.Value)
		require.True(w, leader.Unconfirmed)
		late := w.observe(e, 0)
		w.pass(500 * time.Millisecond)
		require.True(w, late.all()[0].Unconfirmed)
		w.pass(ttl)
		require.Equal(w, []string{vacant, "A", "A", vacant}, seen.saw())
		require.Equal(w, []bool{false, false, true, false}, unconfirmed(seen))
		require.Equal(w, []string{"A", vacant}, late.saw())
	})
}

// report E7
func TestALeaderThatGoesOnAfterAnOutageIsConfirmed(t *testing.T) {
	for _, proclaims := range []bool{false, true} {
		simulate(t, func(w *world) {
			a, o := w.session("a", WithTTL(time.Minute)), w.session("o")
			e := NewElection(o, "e")
			seen := w.observe(e, 0)
			term := w.campaign(NewElection(a, "e"), "A")
			w.pass(time.Second)
			w.Stop()
			w.pass(18 * time.Second)
			w.Start()
			w.pass(12 * time.Second)
			require.NoError(w, term.Err())
			leader, err := e.Leader(w.ctx)
			require.NoError(w, err)
			require.True(w, leader.Unconfirmed)
			if proclaims {
				require.NoError(w, term.Proclaim(w.ctx, "A2"))
				w.pass(time.Second)
				leader, err = e.Leader(w.ctx)
				require.NoError(w, err)
				require.False(w, leader.Unconfirmed)
				require.Equal(w, []bool{false, false, true, false}, unconfirmed(seen))
				return
			}
			w.pass(time.Minute + 2*time.Second) // for which etcd may keep a lease that has run out
			require.NoError(w, term.Err())
			require.Equal(w, []string{vacant, "A", "A", "A"}, seen.saw())
			require.Equal(w, []bool{false, false, true, false}, unconfirmed(seen))
			w.Client("o").ResetCounts()
			leader, err = e.Leader(w.ctx)
			require.NoError(w, err)
			require.False(w, leader.Unconfirmed)
			require.Equal(w, 1, w.Client("o").Count(), "nothing more is asked")
		})
	}
}

// report E7: another raft leader alone is no reason for doubt.
func TestAShortOutagePutsNoLeaderInDoubt(t *testing.T) {
	simulate(t, func(w *world) {
		e := NewElection(w.session("o"), "e")
		seen := w.observe(e, 0)
		w.campaign(NewElection(w.session("a"), "e"), "A")
		for range 3 {
			w.pass(10 * time.Second)
			w.Stop()
			w.pass(time.Second)
			w.Start()
			leader, err := e.Leader(w.ctx)
			require.NoError(w, err)
			require.False(w, leader.Unconfirmed)
		}
		w.pass(time.Minute)
		require.Equal(w, []bool{false, false}, unconfirmed(seen))
	})
}

// report E7: a session that has given up takes its keys away as soon as it can, however long that
// takes.
func TestASessionThatHasGivenUpRevokesItsLeaseAfterAnyOutage(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.session("a")
		term := w.campaign(NewElection(a, "e"), "A")
		w.Stop()
		w.pass(5 * time.Minute)
		require.ErrorIs(w, term.Err(), ErrExpired)
		w.Start()
		w.pass(3 * time.Second)
		w.empty("e")
	})
}

func unconfirmed(o *observer) []bool {
	var all []bool
	for _, l := range o.all() {
		all = append(all, l.Unconfirmed)
	}
	return all
}
