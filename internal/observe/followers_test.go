package observe

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestManyObserversOfOneElectionShareOneWatch(t *testing.T) {
	simulate(t, func(r *rig) {
		var all []*observing
		for i := range 20 { // the last one is slow, and delays no other one
			all = append(all, r.observe("e", time.Duration(i/19)*time.Minute))
		}
		require.Equal(r, 1, r.client.Count(simetcd.Watch))
		other := r.observe("f", 0)
		require.Equal(r, 2, r.client.Count(simetcd.Watch), "another election is another watch")

		want := []string{vacant}
		for i := range 5 {
			r.put("e/a", fmt.Sprint(i))
			r.DeleteKey("e/a")
			want = append(want, fmt.Sprint(i), vacant)
			r.pass(100 * time.Millisecond)
			all[i].end(r) // the others go on
		}
		for _, o := range all[5:19] {
			require.Equal(r, want, o.saw())
		}
		require.Equal(r, 2, r.client.Count(simetcd.Watch))
		r.pass(12 * time.Minute)
		require.Equal(r, want, all[19].saw())
		for _, o := range append(all[5:], other) {
			o.cancel()
		}
		r.pass(time.Minute)
		for _, o := range append(all[5:], other) {
			o.end(r)
		}
		r.client.ResetCounts()
		r.pass(time.Minute)
		require.Zero(r, r.client.Count(simetcd.Watch, simetcd.Range), "no observer is left")
		require.Empty(r, r.followers.followers)
		r.observe("e", 0).end(r)
		require.Equal(r, 1, r.client.Count(simetcd.Watch), "the next observer starts another follower")
	})
}

// trap B9: a newcomer is not told of the present what the others were told before.
func TestAnObserverWhoJoinsOthersIsToldWhatIsSoNow(t *testing.T) {
	simulate(t, func(r *rig) {
		first := r.observe("e", 0)
		r.put("e/a", "A")
		r.pass(time.Second)
		r.client.Cut()
		r.DeleteKey("e/a")
		late := r.observe("e", 0)
		r.pass(3 * time.Second)
		require.Equal(r, []string{vacant, "A"}, first.saw())
		require.Empty(r, late.saw(), "it cannot know")
		r.client.Heal()
		r.pass(15 * time.Second)
		require.Equal(r, []string{vacant, "A", vacant}, first.saw())
		require.Equal(r, []string{vacant}, late.saw())

		r.client.CutReplies() // the watch is late, and the newcomer's own reading too
		r.put("e/b", "B")
		r.client.Resume()
		third := r.observe("e", 0)
		r.pass(time.Second)
		require.Equal(r, []string{"B"}, third.saw(), "once")
		require.Equal(r, []string{vacant, "B"}, late.saw())
	})
}

// trap A21: the watch of the others was not told of two deletions. When the first of the two keys comes
// again, the second one seems to be the oldest. A newcomer knows better, by its own reading. (schedule 17881)
func TestAnObserverIsNotToldOfATermThatWasOverWhenItJoined(t *testing.T) {
	for name, vacantNow := range map[string]bool{"there is a leader when it joins": false, "there is no leader when it joins": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				first := r.observe("e", 0)
				r.put("e/a", "A")
				r.put("e/b", "B")
				r.pass(100 * time.Millisecond)
				for _, key := range []string{"e/a", "e/b"} {
					r.MissDelete(key)
					r.DeleteKey(key)
				}
				if !vacantNow {
					r.put("e/c", "C")
				}
				late := r.observe("e", 0)
				r.put("e/a", "A again")
				r.pass(25 * time.Second)
				want := map[bool][]string{false: {"C"}, true: {vacant, "A again"}}
				require.Equal(r, want[vacantNow], late.saw())
				require.Equal(r, late.saw()[len(late.saw())-1], first.saw()[len(first.saw())-1])
			})
		})
	}
}

// report E4
func TestWhatAFollowerKeepsIsBounded(t *testing.T) {
	for name, pace := range map[string]time.Duration{"fast": 0, "slow": 2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				o := r.observe("e", pace)
				f := r.followers.followers["e"]
				r.put("e/a", "A")
				var first weak.Pointer[mvccpb.KeyValue]
				for i := range 300 {
					r.put("e/a", fmt.Sprint(i, strings.Repeat("x", 100_000)))
					r.pass(10 * time.Millisecond)
					if i == 0 {
						first = weak.Make(f.history.latest.First)
					}
				}
				r.Compact(0)
				if pace == 0 {
					require.Len(r, o.saw(), 302, "all were reported")
					o.forget()
				}
				runtime.GC()
				require.True(r, first.Value() == nil, "the first change is still kept")
				kept := len(f.history.changes)
				require.LessOrEqual(r, f.history.size, mostBytes)

				r.pass(time.Hour) // in which the queue is read 360 times
				require.Len(r, f.history.changes, kept)
				if pace > 0 {
					r.pass(time.Duration(kept) * pace)
					seen := o.saw()
					require.Len(r, seen, 1+kept)
					require.True(r, strings.HasPrefix(seen[len(seen)-1], "299"), "the last change is never dropped")
					o.cancel()
					r.pass(pace)
				}
				o.end(r)
			})
		})
	}
}

func TestCloseEndsAllObserversWithItsCause(t *testing.T) {
	simulate(t, func(r *rig) {
		cause := errors.New("why it ended")
		follows := r.observe("e", 0)
		r.client.Cut()
		reads := r.observe("e", 0) // joins, and waits for its own reading
		begins := r.observe("f", 0)
		began := time.Now()
		r.followers.Close(cause)
		for _, o := range []*observing{follows, reads, begins, r.observe("g", 0)} {
			<-o.done
			require.ErrorIs(r, o.err, cause)
		}
		require.Equal(r, 20*time.Millisecond, time.Since(began), "which the last observer took to begin")
		require.Empty(r, r.followers.followers)
	})
}

func TestAFollowerThatEtcdRefusesIsNotTheNextOne(t *testing.T) {
	simulate(t, func(r *rig) {
		a, b := r.observe("e", 0), r.observe("e", 0)
		r.Intercept(func(simetcd.Call) simetcd.Action { return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied} })
		r.CutWatches()
		for _, o := range []*observing{a, b} {
			<-o.done
			require.ErrorIs(r, o.err, rpctypes.ErrPermissionDenied)
		}
		r.Intercept(nil)
		c := r.observe("e", 0)
		require.Equal(r, []string{vacant}, c.saw())
		c.end(r)
	})
}

func TestAnyNameIsOneThatIsObserved(t *testing.T) {
	simulate(t, func(r *rig) {
		_, ok := r.followers.AnyName()
		require.False(r, ok)
		f := r.observe("f", 0)
		e := r.observe("e", 0)
		name, ok := r.followers.AnyName()
		require.True(r, ok)
		require.Equal(r, "e", name)
		e.end(r)
		name, _ = r.followers.AnyName()
		require.Equal(r, "f", name)
		f.end(r)
	})
}

// An observer that leaves while it is told of a change leaves no follower behind.
func TestAnObserverThatWantsNoMoreLeaves(t *testing.T) {
	simulate(t, func(r *rig) {
		for range 2 {
			require.NoError(r, r.followers.Observe(context.Background(), "e", func(queue.Head) bool { return false }))
			require.Empty(r, r.followers.followers)
		}
		synctest.Wait()
	})
}
