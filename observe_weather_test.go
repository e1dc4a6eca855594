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
					tokens[term.of.Entry().CreateRevision] = term.Token()
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
