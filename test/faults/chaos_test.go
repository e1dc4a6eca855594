package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// weather makes one fault after the other for one client, each of a kind and a
// length by chance: some within the TTL, some beyond.
func weather(p *faultproxy.Proxy, r *rand.Rand, ttl, during time.Duration) {
	for end := time.Now().Add(during); time.Now().Before(end); {
		switch r.IntN(6) {
		case 0:
			p.Hold()
		case 1:
			p.Hold(faultproxy.ToServer)
		case 2:
			p.Hold(faultproxy.ToClient)
		case 3:
			p.Delay(faultproxy.ToClient, upTo(r, ttl))
		case 4:
			p.Refuse()
			p.Drop()
		case 5: // fair
		}
		time.Sleep(upTo(r, ttl*3/2)) // how long it lasts
		if r.IntN(2) == 0 {
			p.Drop() // what was held back is lost, else late
		}
		p.Resume()
		time.Sleep(upTo(r, ttl*2))
	}
	p.Resume()
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// Each of several clients has faults of its own, and each holder writes without a guard.
// trap A4, A6, A11, C4
func TestNoLockIsHeldTwiceInAnyWeather(t *testing.T) {
	f := newFixture(t)
	const (
		ttl    = time.Second
		during = 6 * time.Second
	)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithCancel(f.Ctx())
	defer cancel()
	var h cluster.History
	var workers []func() error
	var weathers sync.WaitGroup
	lost := make(chan struct{}, 10_000)
	for i := range 4 {
		client, proxy := f.Proxied()
		s := f.Session(client, ttl)
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		weathers.Go(func() { weather(proxy, r, ttl, during) })
		workers = append(workers, func() error {
			for ctx.Err() == nil {
				l, err := etcdlock.NewMutex(s, "lock").Lock(ctx)
				switch {
				case err == nil:
				case errors.Is(err, etcdlock.ErrLost):
					lost <- struct{}{}
					continue
				case ctx.Err() != nil:
					return nil //nolint:nilerr // the end of the test, not of the lock
				default:
					return err
				}
				end := h.Begin(l.Err, s, l.Token())
				select {
				case <-l.Done():
					lost <- struct{}{}
				case <-time.After(10 * time.Millisecond): // the work
				}
				end()
				_ = l.Unlock(ctx) // what it could not do yet goes on in the background
			}
			return nil
		})
	}
	workers = append(workers, func() error {
		defer cancel()
		weathers.Wait()
		// A slow machine may have had nothing but losses; in fair weather there are holds.
		for h.Len() <= 10 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	cluster.All(t, workers...)
	h.AssertExclusive(t)
	t.Logf("figure: %d holds, %d holds and places in line lost", h.Len(), len(lost))
	require.Greater(t, h.Len(), 10)
	f.Patience = 3*ttl + cluster.ExpirySlack
}

// A member that has lost the others still answers its clients, but hears nothing.
// trap A22
func TestAWaiterOnAMemberThatIsCutOffFromTheOthersHearsOfTheRelease(t *testing.T) {
	f := newFixture(t)
	leader := f.Cluster.WaitLeader(t)
	cutOff := (leader + 1) % f.Size
	holder, err := etcdlock.NewMutex(f.Session(f.ClientTo(f.Cluster.Endpoints()[leader:leader+1]), cluster.LongTTL), "lock").Lock(f.Ctx())
	require.NoError(t, err)
	client := f.ClientTo(f.Cluster.Endpoints()[cutOff : cutOff+1])
	waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(f.Session(client, cluster.LongTTL), "lock"))
	f.WaitForKeys("lock", 2)
	cluster.StillWaiting(t, waiting, 500*time.Millisecond) // its watches are on that member
	client.SetEndpoints(f.Cluster.Endpoints()...)

	others := []int{leader, 3 - leader - cutOff}
	for _, i := range others {
		f.Cluster.Members[cutOff].InjectPartition(t, f.Cluster.Members[i])
	}
	released := time.Now()
	cluster.Release(t, holder)
	next := cluster.Granted(t, waiting)
	t.Logf("figure: granted %v after the release", next.At.Sub(released))
	require.Less(t, next.At.Sub(released), 20*time.Second)
	for _, i := range others {
		f.Cluster.Members[cutOff].RecoverPartition(t, f.Cluster.Members[i])
	}
	cluster.Release(t, next.Handle)
}
