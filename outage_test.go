package etcdlock

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// The table of docs/choosing.md: a row names a TTL, a margin, and the outage of etcd that a hold
// survives at the worst moment, which is just before a renewal.
func TestEachTTLSurvivesTheOutageThatTheGuideNames(t *testing.T) {
	const reconnecting = 500 * time.Millisecond // part of the outage in the guide
	guide, err := os.ReadFile("docs/choosing.md")
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^\| (\d+) s \| ([\d.]+) s \| ([\d.]+) s \|`).FindAllStringSubmatch(string(guide), -1)
	require.Greater(t, len(rows), 4)
	for _, row := range rows {
		ttl, margin, outage := seconds(t, row[1]), seconds(t, row[2]), seconds(t, row[3])
		require.InDelta(t, ttl*2/3-margin-reconnecting, outage, float64(100*time.Millisecond), row[0])
		for _, stops := range []bool{false, true} {
			require.True(t, survivesAnOutage(t, ttl, margin, outage, stops), row[0])
			require.False(t, survivesAnOutage(t, ttl, margin, outage+reconnecting+150*time.Millisecond, stops), row[0])
		}
	}
}

func seconds(t *testing.T, s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return time.Duration(f * float64(time.Second))
}

// survivesAnOutage tells whether a hold survives that etcd is away from just before a renewal on:
// that it is stopped, or that the client is cut off.
func survivesAnOutage(t *testing.T, ttl, margin, outage time.Duration, stops bool) (survives bool) {
	simulate(t, func(w *world) {
		s := w.session("a", WithTTL(ttl), WithMargin(margin))
		l := w.lock(NewMutex(s, "m"))
		w.pass(ttl) // some renewals
		sent := l.Deadline().Add(margin - ttl)
		w.pass(time.Until(sent.Add(ttl/3 - 10*time.Millisecond)))
		if stops {
			w.Stop()
		} else {
			w.Client("a").Cut()
		}
		w.pass(outage)
		if stops {
			w.Start()
		} else {
			w.Client("a").Heal()
		}
		w.pass(ttl)
		survives = l.Err() == nil
	})
	return survives
}

// The sizing table of docs/choosing.md: what a process at rest asks of etcd in 1,000 seconds, with a
// TTL of 10 s.
func TestWhatAProcessAtRestAsksOfEtcd(t *testing.T) {
	simulate(t, func(w *world) {
		holder, waiter := w.session("holder"), w.session("waiter")
		rest := func(client string, leases, renewals, reads int) {
			t.Helper()
			w.pass(time.Minute)
			c := w.Client(client)
			c.ResetCounts()
			w.pass(1000 * time.Second)
			require.Len(w, w.Leases(), leases)
			require.InDelta(w, renewals, c.Count(simetcd.LeaseKeepAlive), 2)
			require.InDelta(w, reads, c.Count(simetcd.Range, simetcd.TxnReadOnly), float64(reads)/10)
			require.Equal(w, c.Count(), c.Count(simetcd.LeaseKeepAlive, simetcd.Range, simetcd.TxnReadOnly), "nothing else")
		}
		for i := range 3 {
			w.lock(NewMutex(holder, fmt.Sprint("m", i)))
		}
		rest("holder", 2, 300, 17)

		ctx, cancel := context.WithCancel(w.ctx)
		waited, ran, observed := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(waited)
			_, _ = NewMutex(waiter, "m0").Lock(ctx)
		}()
		rest("waiter", 2, 300, 100)

		go func() {
			defer close(observed)
			for _, err := range NewElection(waiter, "e").Observe(ctx) {
				if err != nil {
					return
				}
			}
		}()
		rest("waiter", 2, 300, 200)

		go func() {
			defer close(ran)
			_ = NewElection(holder, "e").Run(ctx, "holder", func(ctx context.Context, _ *Term) error {
				<-ctx.Done()
				return nil
			}, WithStopTimeout(time.Second))
		}()
		rest("holder", 3, 600, 34)
		cancel()
		<-waited
		<-observed
		<-ran
	})
}
