package concurrency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// reports C1, C2: sessions of this package beside etcdlock's own, with priorities and transfers, in random
// schedules with lost and late requests. No two hold, places grow, nothing is refused to a session that lives, each
// worker gets its turn when all is well again, and nothing is left behind.
func TestBesideEtcdlockItself(t *testing.T) {
	var sum struct{ holds, stepped, transfers int }
	for seed := range uint64(8) {
		simulate(t, func(w *world) {
			b := &beside{world: w, seed: seed, inside: map[string]context.Context{}, last: map[string]int64{}}
			b.run()
			require.Empty(w, b.violations, "seed %d", seed)
			sum.holds += b.holds
			sum.stepped += b.stepped
			sum.transfers += b.transfers
		})
	}
	t.Logf("%+v", sum)
	require.Positive(t, sum.holds)
	require.Positive(t, sum.stepped, "keys that another one preferred had made them give up")
	require.Positive(t, sum.transfers)
}

// beside is one schedule.
type beside struct {
	*world
	seed uint64

	mu                        sync.Mutex
	inside                    map[string]context.Context // the hold of each name
	last                      map[string]int64           // the largest revision of each name
	holds, stepped, transfers int
	violations                []string
}

func (b *beside) violation(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violations = append(b.violations, fmt.Sprintf(format, args...))
}

// enter notes a hold, by its context and the creation of its key.
func (b *beside) enter(name, who string, hold interface {
	Context() context.Context
	CreateRevision() int64
	Key() string
}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, rev := hold.Context(), hold.CreateRevision()
	if ctx.Err() != nil {
		return
	}
	if other := b.inside[name]; other != nil && other.Err() == nil {
		b.violations = append(b.violations, fmt.Sprintf("%s holds %s beside another", who, name))
	}
	if rev <= b.last[name] {
		b.violations = append(b.violations, fmt.Sprintf("%s holds %s by %d after %d", who, name, rev, b.last[name]))
	}
	b.inside[name], b.last[name] = ctx, rev //nolint:fatcontext // the context of the hold, by name
	b.holds++
	for i := range hold.Key() {
		if hold.Key()[i] == '.' {
			b.stepped++
			break
		}
	}
}

func (b *beside) run() {
	rnd := rand.New(rand.NewPCG(b.seed, 0)) //nolint:gosec // reproducible on purpose
	ctx, cancel := context.WithCancel(b.ctx)
	var workers sync.WaitGroup
	clients := []string{"a", "b", "c", "d", "e"}
	for i, client := range clients {
		work := rand.New(rand.NewPCG(b.seed, uint64(i+1))) //nolint:gosec // reproducible on purpose
		if i < 2 {
			workers.Go(func() { b.compat(ctx, client, work) })
		} else {
			workers.Go(func() { b.native(ctx, client, work) })
		}
	}
	var mu sync.Mutex
	single := rand.New(rand.NewPCG(b.seed, 100)) //nolint:gosec // reproducible on purpose
	b.Intercept(func(c simetcd.Call) simetcd.Action {
		mu.Lock()
		defer mu.Unlock()
		if c.Kind == simetcd.Watch || c.Kind == simetcd.LeaseGrant {
			return simetcd.Action{} // of a stream nothing is lost alone; a new session waits for its grant
		}
		late := time.Duration(single.IntN(3000)) * time.Millisecond
		switch single.IntN(40) {
		case 0:
			return simetcd.Action{DropReply: true}
		case 1:
			return simetcd.Action{DropRequest: true}
		case 2:
			return simetcd.Action{DelayRequest: late}
		case 3:
			return simetcd.Action{DelayReply: late}
		}
		return simetcd.Action{}
	})
	for range 15 {
		c := b.Client(clients[rnd.IntN(len(clients))])
		b.pass(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		switch rnd.IntN(5) {
		case 0:
			c.Cut()
		case 1:
			c.CutReplies()
		case 2:
			b.NewLeader()
		case 3:
			b.CutWatches()
		}
		b.pass(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		if rnd.IntN(2) == 0 {
			c.Resume()
		} else {
			c.Heal()
		}
	}
	cancel()
	b.Intercept(nil)
	workers.Wait()
	b.pass(2 * time.Minute) // leases with an unanswered grant
	for _, kv := range b.Keys("") {
		b.violation("left behind: %s", kv.Key)
	}
}

// getsATurn is a turn that each session must get when all is well again.
func (b *beside) getsATurn(who string, turn func(context.Context) error) {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
	defer cancel()
	if err := turn(ctx); err != nil {
		b.violation("%s gets no turn when all is well again: %v", who, err)
	}
}

// compat is a program on this package: when it loses its session it makes another one.
func (b *beside) compat(ctx context.Context, client string, work *rand.Rand) {
	turn := func(ctx context.Context, s *Session) error {
		bounded, cancel := context.WithTimeout(ctx, time.Duration(work.IntN(20000))*time.Millisecond)
		defer cancel()
		if work.IntN(3) == 0 {
			m := NewMutex(s, "m")
			err := m.Lock(bounded)
			if err != nil {
				return err
			}
			b.enter("m", client, m.Hold())
			b.hold(m.Hold().Context(), work)
			release, cancel := context.WithTimeout(ctx, time.Duration(work.IntN(2000))*time.Millisecond)
			defer cancel()
			_ = m.Unlock(release)
			return nil
		}
		e := NewElection(s, "e")
		if err := e.Campaign(bounded, client); err != nil {
			return err
		}
		b.enter("e", client, e.Term())
		b.hold(e.Term().Context(), work)
		release, cancel := context.WithTimeout(ctx, time.Duration(work.IntN(2000))*time.Millisecond)
		defer cancel()
		_ = e.Resign(release)
		return nil
	}
	for ctx.Err() == nil {
		s, err := NewSession(b.Client(client).Client, WithTTL(3), WithContext(b.ctx))
		if err != nil {
			b.violation("%s: no session: %v", client, err)
			return
		}
		for s.Ctx().Err() == nil && ctx.Err() == nil {
			err := turn(ctx, s)
			refused := errors.Is(err, ErrSessionExpired) || errors.Is(err, ErrElectionNotLeader)
			if refused && s.inner.State() == etcdlock.StateConnected && s.Lease() == s.inner.Lease() {
				b.violation("%s: refused, and the session lives: %v", client, err)
			}
		}
		if ctx.Err() != nil && s.Ctx().Err() == nil {
			b.Client(client).Heal()
			b.getsATurn(client, func(ctx context.Context) error {
				m := NewMutex(s, "m")
				err := m.Lock(ctx)
				if err != nil {
					return err
				}
				return m.Unlock(ctx)
			})
			b.getsATurn(client, func(ctx context.Context) error {
				e := NewElection(s, "e")
				if err := e.Campaign(ctx, client); err != nil {
					return err
				}
				return e.Resign(ctx)
			})
		}
		_ = s.Close()
	}
}

// native is a program on etcdlock itself.
func (b *beside) native(ctx context.Context, client string, work *rand.Rand) {
	s, err := etcdlock.NewSession(b.ctx, b.Client(client).Client, etcdlock.WithTTL(3*time.Second), etcdlock.WithForeignNames())
	if err != nil {
		b.violation("%s: no session: %v", client, err)
		return
	}
	e := etcdlock.NewElection(s, "e", etcdlock.WithPriority(work.IntN(3)))
	m := etcdlock.NewMutex(s, "m", etcdlock.WithTimeSlice(0))
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, time.Duration(work.IntN(20000))*time.Millisecond)
		if work.IntN(3) == 0 {
			if lock, err := m.Lock(bounded); err == nil {
				b.enter("m", client, lock)
				b.hold(lock.Context(), work)
				_ = lock.Unlock(bounded)
			}
		} else if term, err := e.Campaign(bounded, client); err == nil {
			b.enter("e", client, term)
			b.hold(term.Context(), work)
			if to := []string{"a", "b", "c", "d", "e"}[work.IntN(5)]; work.IntN(2) == 0 && term.Transfer(bounded, to) == nil {
				b.mu.Lock()
				b.transfers++
				b.mu.Unlock()
			}
			_ = term.Resign(bounded)
		}
		cancel()
	}
	b.Client(client).Heal()
	b.getsATurn(client, func(ctx context.Context) error {
		lock, err := m.Lock(ctx)
		for errors.Is(err, etcdlock.ErrLost) {
			lock, err = m.Lock(ctx)
		}
		if err != nil {
			return err
		}
		return lock.Unlock(ctx)
	})
	b.getsATurn(client, func(ctx context.Context) error {
		term, err := e.Campaign(ctx, client)
		for errors.Is(err, etcdlock.ErrLost) {
			term, err = e.Campaign(ctx, client)
		}
		if err != nil {
			return err
		}
		return term.Resign(ctx)
	})
	if err := s.Close(b.ctx); err != nil {
		b.violation("%s cannot close: %v", client, err)
	}
}

// hold works for a while, or until the hold is over.
func (b *beside) hold(held context.Context, work *rand.Rand) {
	select {
	case <-time.After(time.Duration(work.IntN(3000)) * time.Millisecond):
	case <-held.Done():
	}
}
