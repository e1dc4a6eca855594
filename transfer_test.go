package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// stands starts to campaign, and waits until it is in line.
func (w *world) stands(e *Election, value string) *pending[*Term] {
	p := start(w, func(ctx context.Context) (*Term, error) { return e.Campaign(ctx, value) })
	w.pass(100 * time.Millisecond)
	return p
}

// marks are the marks that stand beside the queue of a name.
func (w *world) marks(name string) []*mvccpb.KeyValue {
	from, _ := wire.SuccessorKeys(name)
	return w.Keys(from)
}

func TestALeaderHandsOverToACandidateByName(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c, d := w.session("a"), w.session("b"), w.session("c"), w.session("d")
		term := w.stands(NewElection(a, "e"), "a").get()
		pb, pc, pd := w.stands(NewElection(b, "e"), "b"), w.stands(NewElection(c, "e"), "c"), w.stands(NewElection(d, "e"), "d")

		require.ErrorIs(w, term.Transfer(w.ctx, "nobody"), ErrNoCandidate)
		require.ErrorIs(w, term.Transfer(w.ctx, "a"), ErrNoCandidate, "the leader is no candidate")
		require.NoError(w, term.Err(), "the term goes on")

		require.NoError(w, term.Transfer(w.ctx, "d"))
		require.ErrorIs(w, term.Err(), ErrReleased)
		next := pd.get()
		require.Greater(w, next.Token(), term.Token())
		pb.isWaiting()
		pc.isWaiting()
		require.ErrorIs(w, term.Transfer(w.ctx, "b"), ErrReleased)

		// The candidates that stepped behind keep their order, and none is preferred any more.
		last := w.stands(NewElection(a, "e"), "a again")
		require.NoError(w, next.Resign(w.ctx))
		tb := pb.get()
		pc.isWaiting()
		require.NoError(w, tb.Resign(w.ctx))
		require.NoError(w, pc.get().Resign(w.ctx))
		require.NoError(w, last.get().Resign(w.ctx))
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// What marks the next one goes with it, whether it leads, gives up or dies.
func TestATransferIsToTheYoungestCandidateOfThatValue(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		older := w.stands(NewElection(w.session("b"), "e"), "next")
		younger := w.stands(NewElection(w.session("c"), "e"), "next")
		require.NoError(w, term.Transfer(w.ctx, "next"))
		require.NoError(w, younger.get().Resign(w.ctx))
		require.NoError(w, older.get().Resign(w.ctx))
	})
}

func TestAMarkOfTheNextDoesNotOutliveIt(t *testing.T) {
	for _, end := range []string{"gives up", "closes", "dies"} {
		t.Run(end, func(t *testing.T) {
			simulate(t, func(w *world) {
				a, b, c := w.session("a"), w.session("b"), w.session("c")
				term := w.stands(NewElection(a, "e"), "a").get()
				pb, pc := w.stands(NewElection(b, "e"), "b"), w.stands(NewElection(c, "e"), "c")
				w.Client("c").Cut()
				require.NoError(w, term.Transfer(w.ctx, "c"))
				switch end {
				case "gives up":
					pc.cancel()
					pc.fails(context.Canceled)
					w.Client("c").Heal()
				case "closes":
					w.Client("c").Heal()
					require.NoError(w, c.Close(w.ctx))
				}
				tb := pb.get()
				require.NoError(w, tb.Resign(w.ctx))
				w.Client("c").Heal()
				w.pass(time.Minute)
				w.empty("e")
				require.Empty(w, w.marks("e"))
				pc.cancel()
				w.allGone()
			})
		})
	}
}

// Never is an older key passed, and one of another library knows nothing of marks.
func TestACandidateOfAnotherLibraryLeadsWhenItIsItsTurn(t *testing.T) {
	simulate(t, func(w *world) {
		a, c := w.session("a"), w.session("c")
		term := w.stands(NewElection(a, "e"), "a").get()
		lease := w.GrantLease(time.Hour)
		foreign, err := concurrency.NewSession(w.Client("f").Client, concurrency.WithLease(lease))
		require.NoError(w, err)
		fe := concurrency.NewElection(foreign, "e")
		pf := start(w, func(ctx context.Context) (int, error) { return 0, fe.Campaign(ctx, "f") })
		w.pass(100 * time.Millisecond)
		pc := w.stands(NewElection(c, "e"), "c")
		require.NoError(w, term.Transfer(w.ctx, "c"))
		pf.get()
		w.pass(time.Second)
		pc.isWaiting()
		require.NoError(w, fe.Resign(w.ctx))
		require.NoError(w, pc.get().Resign(w.ctx))
		w.pass(time.Second)
		w.empty("e")
		require.NoError(w, foreign.Close())
		synctest.Wait()
	})
}

func TestOfThoseWhoWaitTheHighestPriorityLeadsNext(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		low := w.stands(NewElection(w.session("b"), "e"), "low")
		mid := w.stands(NewElection(w.session("c"), "e", WithPriority(1)), "mid")
		high := w.stands(NewElection(w.session("d"), "e", WithPriority(5)), "high")
		also := w.stands(NewElection(w.session("f"), "e", WithPriority(5)), "also high")
		under := w.stands(NewElection(w.session("g"), "e", WithPriority(-1)), "under")
		require.NoError(w, term.Resign(w.ctx))
		last := int64(0)
		for _, next := range []*pending[*Term]{high, also, mid, low, under} {
			led := next.get()
			require.Greater(w, led.Token(), last)
			last = led.Token()
			w.pass(time.Second)
			require.NoError(w, led.Resign(w.ctx))
		}
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// Priorities do not disturb a leader, and a transfer counts for more than them.
func TestAPriorityDoesNotDisturbALeader(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		high := w.stands(NewElection(w.session("b"), "e", WithPriority(9)), "high")
		low := w.stands(NewElection(w.session("c"), "e"), "low")
		w.pass(time.Minute)
		require.NoError(w, term.Err())
		require.NoError(w, term.Transfer(w.ctx, "low"))
		led := low.get()
		high.isWaiting()
		require.NoError(w, led.Resign(w.ctx))
		require.NoError(w, high.get().Resign(w.ctx))
		w.allGone()
	})
}

// A candidate that cannot delete its successor key when it goes, like one of another library, leaves a key that no caller
// waits for: neither waiters that saw the candidate go, in a short or in a long queue, nor a later TryLock.
func TestNobodyWaitsForAMarkThatIsLeftBehind(t *testing.T) {
	for name, crowd := range map[string]int{"few": 1, "crowd": 20} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.stands(NewElection(w.session("a"), "e"), "a").get()
				lease := w.GrantLease(time.Hour)
				foreign, err := concurrency.NewSession(w.Client("f").Client, concurrency.WithLease(lease))
				require.NoError(w, err)
				fe := concurrency.NewElection(foreign, "e")
				pf := start(w, func(ctx context.Context) (int, error) { return 0, fe.Campaign(ctx, "f") })
				w.pass(100 * time.Millisecond)
				require.NoError(w, term.Transfer(w.ctx, "f"))
				pf.get()
				var waiting []*pending[*Lock]
				for i := range crowd { // behind the mark, too; candidates and others wait alike
					waiting = append(waiting, start(w, NewMutex(w.session(fmt.Sprint("m", i)), "e").Lock))
					w.pass(10 * time.Millisecond)
				}
				w.pass(time.Minute)
				went := time.Now()
				require.NoError(w, fe.Resign(w.ctx))
				for _, p := range waiting {
					require.NoError(w, p.get().Unlock(w.ctx))
				}
				require.Less(w, time.Since(went), time.Second)
				w.pass(time.Second)
				w.empty("e")
				require.NoError(w, foreign.Close())
				w.allGone()
			})
		})
	}
}

// No listing shows a successor key as a candidate.
func TestAMarkIsNobody(t *testing.T) {
	simulate(t, func(w *world) {
		a, b, c := w.session("a"), w.session("b"), w.session("c")
		term := w.stands(NewElection(a, "e"), "a").get()
		pb := w.stands(NewElection(b, "e"), "b")
		pc := w.stands(NewElection(c, "e"), "c")
		seen := w.observe(NewElection(a, "e"), 0)
		require.NoError(w, term.Transfer(w.ctx, "c"))
		next := pc.get()
		w.pass(time.Second)
		require.Len(w, w.Keys("e/"), 2)
		require.Len(w, w.marks("e"), 1)

		all, err := NewElection(a, "e").Candidates(w.ctx)
		require.NoError(w, err)
		require.Len(w, all, 2)
		require.Equal(w, []string{"c", "b"}, []string{all[0].Value, all[1].Value})
		entries, err := NewMutex(a, "e").Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, entries, 2)
		leader, err := NewElection(a, "e").Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "c", leader.Value)
		kvs, _, err := a.etcd.Queues.Queue("e").List(w.ctx)
		require.NoError(w, err)
		require.Len(w, queue.Contenders("e", kvs), 2)

		require.NoError(w, next.Resign(w.ctx))
		require.NoError(w, pb.get().Resign(w.ctx))
		w.pass(time.Second)
		for _, l := range seen.all() {
			require.NotContains(w, l.Key, "next")
			require.NotContains(w, l.Value, "next")
		}
		require.Empty(w, w.marks("e"), "it went with the term")
		// If only a mark is left, there is no leader.
		w.PutKey(wire.SuccessorKey("e", 1), `{"next":"1","rev":5}`, clientv3.NoLease)
		_, err = NewElection(a, "e").Leader(w.ctx)
		require.ErrorIs(w, err, ErrNoLeader)
		w.stands(NewElection(a, "e"), "a").get()
	})
}

// A transfer with a lost answer took effect, even if the next leader has come and gone before the next try.
func TestATransferWhoseAnswerIsLostIsNoLoss(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		pc := w.stands(NewElection(w.session("c"), "e"), "c")
		w.next("a", simetcd.Txn, simetcd.Action{DropReply: true})
		transfer := start(w, func(ctx context.Context) (int, error) { return 0, term.Transfer(ctx, "c") })
		require.NoError(w, pc.get().Resign(w.ctx))
		transfer.get()
		require.ErrorIs(w, term.Err(), ErrReleased)
		require.NotErrorIs(w, term.Err(), ErrLost)
		w.pass(time.Second)
		w.empty("e")
		w.allGone()
	})
}

// Stepping behind, too: what took effect without an answer is not done twice.
func TestSteppingBehindSurvivesALostAnswer(t *testing.T) {
	for name, act := range map[string]simetcd.Action{
		"answer lost":  {DropReply: true},
		"request lost": {DropRequest: true},
		"request late": {DelayRequest: 3 * time.Second},
		"refused":      {Err: rpctypes.ErrGRPCPermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				term := w.stands(NewElection(w.session("a"), "e"), "a").get()
				pb := w.stands(NewElection(w.session("b"), "e"), "b")
				pc := w.stands(NewElection(w.session("c"), "e", WithPriority(1)), "c")
				w.next("b", simetcd.Txn, act)
				require.NoError(w, term.Resign(w.ctx))
				if name == "refused" {
					pb.fails(rpctypes.ErrPermissionDenied)
					require.NoError(w, pc.get().Resign(w.ctx))
				} else {
					next := pc.get()
					w.pass(5 * time.Second)
					require.Len(w, w.Keys("e/"), 2)
					require.NoError(w, next.Resign(w.ctx))
					require.NoError(w, pb.get().Resign(w.ctx))
				}
				w.pass(time.Minute)
				w.empty("e")
				w.allGone()
			})
		})
	}
}

// When the answer does not come in time, it is said that the outcome is not known; and a key that may not be marked is
// an error too, not a silent resignation.
func TestATransferThatMayNotHaveHappenedSaysSo(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		pb := w.stands(NewElection(w.session("b"), "e"), "b")
		pc := w.stands(NewElection(w.session("c"), "e"), "c")
		w.next("a", simetcd.Txn, simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied})
		require.ErrorIs(w, term.Transfer(w.ctx, "c"), rpctypes.ErrPermissionDenied)
		term = pb.get()
		w.first(2, "b", simetcd.Txn, simetcd.Action{DropRequest: true})
		require.ErrorIs(w, term.Transfer(w.timeout(100*time.Millisecond), "c"), context.DeadlineExceeded)
		require.NoError(w, pc.get().Resign(w.ctx))
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// In a long queue no candidate has a cache of it. A transfer to the last one works the same, and so does a second one.
func TestTransfersInALongQueue(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		var waiting []*pending[*Term]
		for i := range 30 {
			waiting = append(waiting, w.stands(NewElection(w.session(fmt.Sprint("c", i)), "e"), fmt.Sprint(i)))
		}
		last := term.Token()
		for _, next := range []int{29, 15} {
			require.NoError(w, term.Transfer(w.ctx, fmt.Sprint(next)))
			term = waiting[next].get()
			require.Greater(w, term.Token(), last)
			last = term.Token()
		}
		for i, p := range waiting {
			if i != 15 && i != 29 {
				p.isWaiting()
			}
		}
		w.pass(time.Second)
		for n := 16; n < 16+29; n++ { // the candidates that stepped behind are behind all others
			i := n % 30
			if i == 29 {
				continue
			}
			if i == 15 {
				break
			}
			require.NoError(w, term.Resign(w.ctx))
			term = waiting[i].get()
		}
		require.NoError(w, term.Resign(w.ctx))
		w.pass(time.Minute)
		w.empty("e")
		w.allGone()
	})
}

// A goroutine that waits in the leader's own session has no entry in etcd, and does not precede the named candidate.
func TestATransferPassesThoseOfTheLeadersOwnSession(t *testing.T) {
	simulate(t, func(w *world) {
		a, c := w.session("a"), w.session("c")
		term := w.stands(NewElection(a, "e"), "a").get()
		own := w.stands(NewElection(a, "e"), "own")
		pc := w.stands(NewElection(c, "e"), "c")
		require.ErrorIs(w, term.Transfer(w.ctx, "own"), ErrNoCandidate)
		require.NoError(w, term.Transfer(w.ctx, "c"))
		next := pc.get()
		own.isWaiting()
		w.pass(time.Second)
		require.NoError(w, next.Transfer(w.ctx, "own"))
		require.NoError(w, own.get().Resign(w.ctx))
		w.allGone()
	})
}

// The one handed to has died: the next in line leads when its lease has run out.
func TestAfterATransferToADeadCandidateTheNextOneLeads(t *testing.T) {
	simulate(t, func(w *world) {
		term := w.stands(NewElection(w.session("a"), "e"), "a").get()
		pb := w.stands(NewElection(w.session("b"), "e"), "b")
		pc := w.stands(NewElection(w.session("c"), "e"), "c")
		w.Client("c").Cut()
		handed := time.Now()
		require.NoError(w, term.Transfer(w.ctx, "c"))
		next := pb.get()
		require.LessOrEqual(w, pb.at.Sub(handed), ttl+2*time.Second)
		require.Greater(w, next.Token(), term.Token())
		require.NoError(w, next.Resign(w.ctx))
		pc.cancel()
		w.Client("c").Heal()
		w.pass(time.Minute)
		w.empty("e")
	})
}
