package etcdlock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestManyObserversOfOneElectionShareOneWatch(t *testing.T) {
	simulate(t, func(w *world) {
		s, a := w.session("o"), w.session("a")
		w.Client("o").ResetCounts()
		var all []*observer
		for i := range 20 { // a slow one among them, who holds up nobody
			all = append(all, w.observe(NewElection(s, "e"), time.Duration(i/19)*time.Minute))
		}
		require.Equal(w, 1, w.Client("o").Count(simetcd.Watch))
		other := w.observe(NewElection(s, "f"), 0)
		require.Equal(w, 2, w.Client("o").Count(simetcd.Watch), "another election is another watch")

		want := []string{vacant}
		for i := range 5 {
			term := w.campaign(NewElection(a, "e"), fmt.Sprint(i))
			require.NoError(w, term.Resign(w.ctx))
			want = append(want, fmt.Sprint(i), vacant)
			all[i].cancel() // one after the other leaves, and the others go on
			all[i].get()
			w.pass(100 * time.Millisecond)
		}
		for _, o := range all[5:19] {
			require.Equal(w, want, o.saw())
		}
		require.Equal(w, 2, w.Client("o").Count(simetcd.Watch))
		w.pass(12 * time.Minute)
		require.Equal(w, want, all[19].saw())
		for _, o := range all[5:] {
			o.cancel()
			o.get()
		}
		other.cancel()
		other.get()
		w.Client("o").ResetCounts()
		w.pass(time.Minute)
		require.Zero(w, w.Client("o").Count(simetcd.Watch, simetcd.Range), "nobody is left who wants to know")
		require.Empty(w, s.observations)
	})
}

// trap B9: what others saw before is not told to a newcomer as what is so.
func TestAnObserverWhoJoinsOthersIsToldWhatIsSoNow(t *testing.T) {
	simulate(t, func(w *world) {
		s, a := w.session("o"), w.session("a")
		first := w.observe(NewElection(s, "e"), 0)
		term := w.campaign(NewElection(a, "e"), "A")
		w.pass(time.Second)
		w.Client("o").Cut()
		require.NoError(w, term.Resign(w.ctx))
		late := w.observe(NewElection(s, "e"), 0)
		w.pass(3 * time.Second)
		require.Equal(w, []string{vacant, "A"}, first.saw())
		require.Empty(w, late.saw(), "it cannot know")
		w.Client("o").Heal()
		w.pass(15 * time.Second)
		require.Equal(w, []string{vacant, "A", vacant}, first.saw())
		require.Equal(w, []string{vacant}, late.saw())

		w.Client("o").CutReplies() // the watch is late, and the newcomer's own reading too
		w.campaign(NewElection(w.session("b"), "e"), "B")
		w.Client("o").Resume()
		third := w.observe(NewElection(s, "e"), 0)
		w.pass(time.Second)
		require.Equal(w, []string{"B"}, third.saw(), "once")
		require.Equal(w, []string{vacant, "B"}, late.saw())
	})
}

// trap A21: the watch of the others was not told of two deletions. When the first of the two keys comes anew, the
// second one seems to be the oldest. A newcomer knows better, by its own reading. (schedule 17881)
func TestAnObserverIsNotToldOfATermThatWasOverWhenItJoined(t *testing.T) {
	for name, vacantNow := range map[string]bool{"somebody leads when it joins": false, "nobody leads when it joins": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				s, a := w.session("o"), w.session("a")
				first := w.observe(NewElection(s, "e"), 0)
				lost := w.campaign(NewElection(a, "e"), "A")
				second := w.candidate(NewElection(w.session("b"), "e"), "B")
				w.pass(100 * time.Millisecond)
				w.MissDelete(lost.Key())
				require.NoError(w, lost.Resign(w.ctx))
				term := second.get()
				w.MissDelete(term.Key())
				require.NoError(w, term.Resign(w.ctx))
				if !vacantNow {
					w.campaign(NewElection(w.session("c"), "e"), "C")
				}
				late := w.observe(NewElection(s, "e"), 0)
				w.candidate(NewElection(a, "e"), "A again")
				w.pass(25 * time.Second)
				want := map[bool][]string{false: {"C"}, true: {vacant, "A again"}}
				require.Equal(w, want[vacantNow], late.saw())
				require.Equal(w, late.saw()[len(late.saw())-1], first.saw()[len(first.saw())-1])
			})
		})
	}
}

// trap B9
func TestWhoeverJoinsOthersIsToldWhatWasSoAndInOrder(t *testing.T) {
	for seed := range uint64(10) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			h, s := newSuccession(w, "e"), w.session("o")
			stop, cancel := context.WithCancel(w.ctx)
			run := w.run(NewElection(w.session("a"), "e"), func(ctx context.Context, term *Term) error {
				for n := 0; ctx.Err() == nil; n++ {
					time.Sleep(137 * time.Millisecond)
					_ = term.Proclaim(ctx, fmt.Sprint(n))
					if n%5 == 0 {
						return term.Resign(ctx)
					}
				}
				return nil
			})
			var all []*observer
			joining := make(chan struct{})
			go func() {
				defer close(joining)
				r := rand.New(rand.NewPCG(seed, 1))
				for stop.Err() == nil && len(all) < 50 {
					time.Sleep(time.Duration(r.Int64N(int64(time.Second))))
					all = append(all, w.observe(NewElection(s, "e"), time.Duration(r.IntN(2))*100*time.Millisecond))
				}
			}()
			w.weather(seed, 15, noMissedDeletes, "o")
			cancel()
			<-joining
			run.end()
			w.pass(time.Minute)
			require.NotEmpty(w, all)
			for i, o := range all {
				seen := o.all()
				require.NotEmpty(w, seen)
				for j, leader := range seen {
					require.Equal(w, h.first(leader.Revision), leader.Key+"="+leader.Value, "seed %d, observer %d, observation %d", seed, i, j)
					if j > 0 {
						require.Greater(w, leader.Revision, seen[j-1].Revision)
						require.NotEqual(w, []string{leader.Key, leader.Value, fmt.Sprint(leader.CreateRevision)},
							[]string{seen[j-1].Key, seen[j-1].Value, fmt.Sprint(seen[j-1].CreateRevision)}, "no news")
					}
				}
				require.True(w, seen[len(seen)-1].Vacant(), "seed %d, observer %d", seed, i)
				o.cancel()
				o.get()
			}
		})
	}
}

// An observer can refuse what former leaders send, by the smallest token that the present one can have.
func TestTheTokenOfALeaderIsNeverSmallerThanItsObserversSay(t *testing.T) {
	for seed := range uint64(3) {
		simulateWith(t, simetcd.Config{Seed: seed}, func(w *world) {
			tokens := map[int64]int64{} // of each term, by its CreateRevision
			o := w.observe(NewElection(w.session("o"), "e"), 0)
			var runs []*running
			for i := range 3 {
				runs = append(runs, w.run(NewElection(w.session(fmt.Sprintf("c%d", i)), "e"), func(ctx context.Context, term *Term) error {
					time.Sleep(300 * time.Millisecond)
					return term.Resign(ctx)
				}))
			}
			w.weather(seed, 15, allFaults, "o", "c0")
			for _, r := range runs {
				r.end()
				for len(r.terms) > 0 {
					term := <-r.terms
					tokens[term.tenure.entry.CreateRevision] = term.Token()
				}
			}
			w.pass(30 * time.Second)
			var before, exact int64
			for _, leader := range o.all() {
				if token, known := tokens[leader.CreateRevision]; known {
					require.LessOrEqual(w, leader.MinToken, token)
					require.GreaterOrEqual(w, leader.MinToken, leader.CreateRevision)
					if leader.MinToken > before {
						exact++
					}
					before = token
				}
			}
			require.Greater(w, exact, int64(len(tokens)/2), "it is of use")
		})
	}
}
