package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// released reports whether a release ends within some time.
func (p *party) released(within time.Duration) bool {
	done := make(chan error, 1)
	go func() { done <- p.Leave(p.ctx, p.entry, false) }()
	select {
	case err := <-done:
		require.NoError(p, err)
		return true
	case <-time.After(within):
		return false
	}
}

// More entries of older versions or of other clients stand behind a marked holder than one call reads.
func TestAReleaseEndsWithManyUnmarkedEntriesBehind(t *testing.T) {
	for _, n := range []int{mostRefused * longestList, mostRefused*longestList + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			simulate(t, func(r *rig) {
				all := r.lineUp("a")
				all["a"].holds(soon)
				for i := range n {
					r.PutKey(fmt.Sprintf("q/%x", 0x1000+i), "", r.GrantLease(time.Hour))
				}
				require.True(r, all["a"].released(10*time.Minute), "the release does not end")
			})
		})
	}
}

// As many marked entries without an inbox stand behind a marked holder as one call tries to tell.
func TestAReleaseEndsWithDeafEntriesBehind(t *testing.T) {
	for _, n := range []int{mostRefused - 1, mostRefused} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			simulate(t, func(r *rig) {
				all := r.lineUp("a")
				all["a"].holds(soon)
				deaf := r.deafen(n)
				for _, p := range deaf {
					require.Nil(r, p.inbox)
				}
				require.True(r, all["a"].released(10*time.Minute), "the release does not end")
				deaf["d0"].holds(soon)
			})
		})
	}
}

// The lease of the entry ahead has ended. The wait is begun again and again, before it would have settled.
func TestAWaitThatIsBegunAgainSettles(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		all["a"].holds(soon)
		r.RevokeLease(all["a"].lease)
		began := time.Now()
		for time.Since(began) < 20*time.Second {
			select {
			case a := <-all["b"].got:
				require.NoError(r, a.err)
				return
			case <-time.After(900 * time.Millisecond):
			}
			all["b"].cancel() // as when the value of the key is to be written again
			if a := <-all["b"].got; a.err == nil {
				return
			}
			all["b"].wait()
		}
		require.FailNow(r, "still waits after 20 s")
	})
}

// The deletion of an inbox comes behind a turn, in one batch of events.
func TestADeletionBehindATurnIsNoted(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b", "c")
		all["a"].holds(soon)
		b, inbox := all["b"], wire.InboxKey("q", all["b"].lease)
		r.CutWatches()
		all["a"].leave()
		r.DeleteKey(inbox)
		b.holds(time.Second)
		b.leave()
		all["c"].holds(soon)
		b.enter()
		b.wait()
		all["c"].leave()
		b.holds(soon)
	})
}

// An eviction is reported as such, also if the answer to the message that follows is lost.
func TestAnEvictionIsReported(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		all["a"].holds(soon)
		r.DeleteKey(all["a"].entry.Key)
		n := 0
		r.Intercept(func(c simetcd.Call) simetcd.Action {
			if c.Client == "a" && c.Kind == simetcd.Txn {
				if n++; n == 2 { // the message
					return simetcd.Action{ErrAfter: rpctypes.ErrGRPCNoLeader}
				}
			}
			return simetcd.Action{}
		})
		err := all["a"].Leave(r.ctx, all["a"].entry, false)
		require.ErrorIs(r, err, lockerr.ErrEvicted)
	})
}

// The lease of the entry ahead has ended, and the watch breaks again and again.
func TestAWaitWhoseWatchBreaksSettles(t *testing.T) {
	for _, mark := range []string{".", ""} {
		t.Run("mark"+mark, func(t *testing.T) {
			simulate(t, func(r *rig) {
				b := mark + "b"
				all := r.lineUp("a", b)
				all["a"].holds(soon)
				r.RevokeLease(all["a"].lease)
				began := time.Now()
				for time.Since(began) < 20*time.Second {
					select {
					case a := <-all[b].got:
						require.NoError(r, a.err)
						return
					case <-time.After(900 * time.Millisecond):
					}
					r.CutWatches()
				}
				require.FailNow(r, "still waits after 20 s")
			})
		})
	}
}

// deafen enters n marked entries without an inbox, because watches are slow to open.
func (r *rig) deafen(n int) map[string]*party {
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Kind == simetcd.Watch {
			return simetcd.Action{DelayReply: 2 * aheadTimeout}
		}
		return simetcd.Action{}
	})
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("d%d", i))
	}
	deaf := r.lineUp(names...)
	r.Intercept(nil)
	return deaf
}

// The key of a waiter is deleted, and many entries without an inbox stand behind it.
func TestAnEvictedWaiterReturns(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp(".a", "b")
		all[".a"].holds(soon)
		r.deafen(mostRefused)
		r.DeleteKey(all["b"].entry.Key)
		all[".a"].leave()
		select {
		case a := <-all["b"].got:
			require.ErrorIs(r, a.err, lockerr.ErrEvicted)
		case <-time.After(time.Minute):
			require.FailNow(r, "still waits after a minute, with a key that is gone")
		}
	})
}

// The sweeper finds a marked key with many entries behind that have no inbox, and a key of another name.
func TestOneKeyDoesNotKeepOthersFromTheSweeper(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a")
		r.deafen(mostRefused)
		r.PutKey("p/1f", "", all["a"].lease)
		swept := []Swept{{Name: "q", Key: all["a"].entry.Key}, {Name: "p", Key: "p/1f"}}
		for range 20 {
			if err := (&Queues{all["a"].shared}).Sweep(r.ctx, swept); err == nil {
				break
			}
		}
		require.Empty(r, r.Keys("p/"), "a key of another name stays")
	})
}
