package etcdlock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/pause"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func (w *world) operator() *clientv3.Client { return w.Client("operator").Client }

// pause pauses the election e.
func (w *world) pause(d time.Duration) *pause.Pause {
	w.Helper()
	p, err := pause.Begin(w.ctx, w.operator(), "e", d)
	require.NoError(w, err)
	return p
}

func TestWhileAnElectionIsPausedTheLeaderStaysAndNoOtherLeads(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.run(NewElection(w.session("a"), "e"), nil)
		first := a.term()
		b := w.run(NewElection(w.session("b"), "e", WithPriority(1)), nil)
		c := w.run(NewElection(w.session("c"), "e", WithPriority(5), WithTakeover(0)), nil)
		w.pass(time.Second)
		observer := NewElection(w.session("observer"), "e")

		p := w.pause(time.Hour)
		require.Equal(w, "of a", string(p.Leader.Value))
		_, err := pause.Begin(w.ctx, w.operator(), "e", time.Hour)
		require.ErrorIs(w, err, pause.ErrPaused)
		foreign := w.foreign("foreign") // it comes later, and knows nothing of a pause
		w.pass(time.Minute)
		require.NoError(w, first.Err(), "the leader stays")
		leader, err := observer.Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "of a", leader.Value)
		require.False(w, leader.Vacant() || leader.Paused())

		a.end()
		w.pass(5 * time.Minute)
		require.Empty(w, b.terms)
		require.Empty(w, c.terms)
		foreign.leads.isWaiting()
		_, err = observer.Leader(w.ctx)
		require.ErrorIs(w, err, ErrNoLeader)
		for l, err := range observer.Observe(w.ctx) {
			require.NoError(w, err)
			require.True(w, l.Vacant() && l.Paused())
			require.Empty(w, l.Value)
			break
		}
		all, err := observer.Candidates(w.ctx)
		require.NoError(w, err)
		require.Len(w, all, 3, "they wait")
		require.False(w, all[0].Leading)
		require.ErrorIs(w, observer.AskToResign(w.ctx, ""), ErrNoLeader)

		require.NoError(w, pause.End(w.ctx, w.operator(), "e"))
		require.ErrorIs(w, pause.End(w.ctx, w.operator(), "e"), pause.ErrNotPaused)
		foreign.leads.get() // it is the oldest now
		require.Empty(w, c.terms)
		foreign.close()
		c.term()
		c.end()
		b.term()
		b.end()
		w.pass(time.Second)
		w.empty("e")
	})
}

// The inbox of a name inside another one is no entry of that one: it does not lead, and prevents no pause.
func TestAnElectionIsPausedThoughKeysLieBesideNamesInsideIts(t *testing.T) {
	simulate(t, func(w *world) {
		w.putBeside("e", 1)
		a := w.run(NewElection(w.session("a"), "e"), nil)
		a.term()
		w.putBeside("e", 40)
		require.Equal(w, "of a", string(w.pause(time.Hour).Leader.Value))
		require.NoError(w, pause.End(w.ctx, w.operator(), "e"))
		a.end()
	})
}

// An entry that would lead although the election is paused prevents the pause.
func TestAnElectionIsNotPausedWhileAnEntryThatDoesNotShowThatItUnderstandsWaits(t *testing.T) {
	for name, enter := range map[string]func(w *world) (leave func()){
		"a candidate of another library": func(w *world) func() { return w.foreign("foreign").close },
		"a candidate without a rank":     func(w *world) func() { return w.stands(NewElection(w.session("b"), "e"), "b").cancel },
		"a mutex":                        func(w *world) func() { return start(w, NewMutex(w.session("b"), "e").Lock).cancel },
		"a reader":                       func(w *world) func() { return start(w, NewRWMutex(w.session("b"), "e").RLock).cancel },
		"a key without a lease":          func(w *world) func() { w.PutKey("e/stray", "", 0); return func() { w.DeleteKey("e/stray") } },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.run(NewElection(w.session("a"), "e"), nil)
				term := a.term()
				w.stands(NewElection(w.session("ranked"), "e", WithPriority(1)), "ranked")
				leave := enter(w)
				w.pass(time.Second)
				_, err := pause.Begin(w.ctx, w.operator(), "e", time.Hour)
				var unknowing *pause.UnknowingError
				require.ErrorAs(w, err, &unknowing)
				require.Len(w, unknowing.Entries, 1)
				for _, kv := range w.Keys("e/") {
					require.False(w, wire.Pauses(string(kv.Key)))
				}
				require.NoError(w, term.Err())
				leave()
				a.end()
			})
		})
	}
}

// The two reads of a pause are one with the write: what came in between is seen.
func TestAnEntryThatComesWhileAPauseBeginsPreventsIt(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.run(NewElection(w.session("a"), "e"), nil)
		a.term()
		client := w.operator()
		client.Lease = &entersBefore{client.Lease, func() { w.stands(NewElection(w.session("b"), "e"), "b") }}
		_, err := pause.Begin(w.ctx, client, "e", time.Hour)
		var unknowing *pause.UnknowingError
		require.ErrorAs(w, err, &unknowing)
		w.pass(time.Second)
		require.Len(w, w.Keys("e/"), 2, "it was withdrawn")
		require.Empty(w, w.Keys("e\x00who/"))
		a.end()
	})
}

// entersBefore lets a candidate enter before a lease is granted.
type entersBefore struct {
	clientv3.Lease
	enter func()
}

func (l *entersBefore) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	l.enter()
	return l.Lease.Grant(ctx, ttl)
}

func TestATransferAheadOfAPauseWorks(t *testing.T) {
	simulate(t, func(w *world) {
		a := w.run(NewElection(w.session("a"), "e", WithPriority(1)), nil, WithResignOnRequest())
		a.term()
		b := w.stands(NewElection(w.session("b"), "e", WithPriority(1)), "b")
		c := w.stands(NewElection(w.session("c"), "e", WithPriority(1)), "c")
		w.pause(time.Hour)
		d := w.stands(NewElection(w.session("d"), "e", WithPriority(1)), "d")
		operator := NewElection(w.session("operator"), "e")
		require.ErrorIs(w, operator.AskToResign(w.ctx, ""), ErrNoCandidate)
		require.ErrorIs(w, operator.AskToTransfer(w.ctx, "d", ""), ErrNoCandidate, "it waits behind the pause")
		require.NoError(w, operator.AskToTransfer(w.ctx, "c", ""))
		term := c.get()
		require.ErrorIs(w, term.Transfer(w.ctx, "d"), ErrNoCandidate)
		require.NoError(w, term.Resign(w.ctx))
		w.pass(time.Minute)
		b.isWaiting()
		d.isWaiting()
		require.Empty(w, a.terms)
		require.NoError(w, pause.End(w.ctx, w.operator(), "e"))
		d.get()
		a.cancel()
		_, _ = a.result()
	})
}

func TestAPauseEndsByItself(t *testing.T) {
	simulate(t, func(w *world) {
		w.pause(10 * time.Second)
		require.Empty(w, w.Keys("e/")[0].Value, "observers of earlier versions see no name")
		began := time.Now()
		a := w.stands(NewElection(w.session("a"), "e"), "a")
		a.isWaiting()
		a.get()
		require.InDelta(w, 10*time.Second, time.Since(began), float64(time.Second))
	})
}

func TestNoCandidateHasThePriorityOfAPause(t *testing.T) {
	simulate(t, func(w *world) {
		_, err := NewElection(w.session("a"), "e", WithPriority(wire.PausePriority)).Campaign(w.ctx, "a")
		require.ErrorIs(w, err, ErrInvalidOption)
	})
}
