package etcdlocktest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// An hour of virtual time in which a lock is held costs its requests, with three events each. No timer
// of the session looks at the clock in between.
func TestAnHourOfVirtualTimeCostsItsRequests(t *testing.T) {
	for _, ttl := range []time.Duration{etcdlock.DefaultTTL, time.Minute} {
		Run(t, func(t *testing.T, etcd *Etcd) {
			p, sim := etcd.Process("a"), etcd.server.(*sim)
			var readings atomic.Int64
			hooks := testhook.Of(p.Client())
			clock := hooks.Clock
			hooks.Clock = func() time.Duration { readings.Add(1); return clock() }
			testhook.For(p.Client(), hooks)
			lock, err := etcdlock.NewMutex(p.Session(etcdlock.WithTTL(ttl)), "job").Lock(t.Context())
			require.NoError(t, err)
			time.Sleep(time.Minute)

			events, requests, renewals := sim.Events(), p.Requests(), p.Requests(KindRenew)
			readings.Store(0)
			time.Sleep(time.Hour)
			events, requests, renewals = sim.Events()-events, p.Requests()-requests, p.Requests(KindRenew)-renewals
			t.Logf("TTL %v: %d renewals, %d other requests, %d events, %d readings of the clock", ttl, renewals, requests-renewals, events, readings.Load())
			require.InDelta(t, 3*time.Hour/ttl, renewals, 2)
			require.InDelta(t, 60, requests-renewals, 2, "a holder reads its key once a minute")
			require.InDelta(t, 3*requests, events, 3)
			require.Less(t, int(readings.Load()), 10*requests)
			require.NoError(t, lock.Unlock(t.Context()))
		})
	}
}

// The end of a lease is noticed as soon after a Sleep as on a machine that slept.
func TestASleepIsNoticedWithinAPartOfTheMargin(t *testing.T) {
	Run(t, func(t *testing.T, etcd *Etcd) {
		p := etcd.Process("a")
		lock, err := etcdlock.NewMutex(p.Session(), "job").Lock(t.Context())
		require.NoError(t, err)
		time.Sleep(4 * time.Second)
		began := time.Now()
		p.Sleep(time.Minute)
		<-lock.Done()
		require.Greater(t, time.Since(began), time.Duration(0))
		require.LessOrEqual(t, time.Since(began), 250*time.Millisecond)
	})
}
