package mixin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/mixin/internal/promdb"
)

// calm is how long a fleet runs before a fault.
const calm = 10 * time.Minute

// scenario is a fault and the alerts that it fires.
type scenario struct {
	fires []string // without the prefix
	fault func(f *fleet)
	over  map[string]time.Duration // alerts that are over so soon after the fault began
}

var scenarios = map[string]scenario{
	"no process may lead": {fires: []string{"NoLeader"}, fault: func(f *fleet) {
		f.unhealthy.Store(true)
		time.Sleep(3 * time.Minute)
		f.unhealthy.Store(false)
	}},
	"all processes die": {fires: []string{"NoLeader"}, fault: func(f *fleet) {
		for _, name := range []string{"a", "b", "c"} {
			f.remove(name, (*service).kill)
		}
	}},
	"two calls wait for each other": {fires: []string{"Deadlock"}, fault: func(f *fleet) {
		ctx, solve := context.WithTimeout(f.t.Context(), 3*time.Minute)
		defer solve()
		var all sync.WaitGroup
		for _, names := range [][2]string{{"report/1", "report/2"}, {"report/2", "report/1"}} {
			all.Go(func() {
				s := f.service(map[string]string{"report/1": "a", "report/2": "b"}[names[0]]).session
				first, err := etcdlock.NewMutex(s, names[0]).Lock(ctx)
				assert.NoError(f.t, err)
				time.Sleep(time.Second)
				wait, cancel := context.WithCancel(first.Context())
				defer context.AfterFunc(ctx, cancel)()
				_, err = etcdlock.NewMutex(s, names[1]).Lock(wait)
				assert.Error(f.t, err)
				assert.NoError(f.t, first.Unlock(f.t.Context()))
			})
		}
		all.Wait()
	}},
	"a key has no lease": {fires: []string{"StrayKey"}, fault: func(f *fleet) {
		lock, err := etcdlock.NewMutex(f.service("a").session, "report").Lock(f.t.Context())
		require.NoError(f.t, err)
		_, err = f.exporter.Client.Put(f.t.Context(), "report/stray", "")
		require.NoError(f.t, err)
		time.Sleep(7 * time.Minute)
		_, err = f.exporter.Client.Delete(f.t.Context(), "report/stray")
		require.NoError(f.t, err)
		require.NoError(f.t, lock.Unlock(f.t.Context()))
	}},
	"a process has another etcd": {fires: []string{"TwoLeaders"}, fault: func(f *fleet) {
		f.start("d", etcdlocktest.New(f.t))
		time.Sleep(5 * time.Minute)
	}},
	"each leader steps down after a minute": {fires: []string{"LeaderFlapping"}, fault: func(f *fleet) {
		f.term.Store(int64(time.Minute))
		time.Sleep(10 * time.Minute)
		f.term.Store(0)
	}},
	"an operator evicts a holder": {fires: []string{"HoldsLost"}, fault: func(f *fleet) {
		_, err := etcdlock.NewMutex(f.service("a").session, "report").Lock(f.t.Context())
		require.NoError(f.t, err)
		f.etcd.Evict("report")
	}},
	"the work of a leader ignores the end of its term": {fires: []string{"HoldsLost", "WorkStuck"}, fault: func(f *fleet) {
		f.stubborn.Store(int64(5 * time.Minute))
		f.etcd.Evict("scheduler")
		time.Sleep(6 * time.Minute)
	}, over: map[string]time.Duration{"WorkStuck": 5*time.Minute + 2*scrapes}},
	"etcd is slow": {fires: []string{"BudgetLow"}, fault: func(f *fleet) {
		f.service("a").process.SlowRenewals(5 * time.Second)
		time.Sleep(3 * time.Minute)
		f.service("a").process.Heal()
	}},
	"a process is cut off": {fires: []string{"BudgetLow", "HoldsLost", "SessionDown"}, fault: func(f *fleet) {
		name := "a"
		if f.etcd.Holder("scheduler") == name {
			name = "b"
		}
		p := f.service(name).process
		_, err := etcdlock.NewMutex(f.service(name).session, "report").Lock(f.t.Context())
		require.NoError(f.t, err)
		p.Cut()
		time.Sleep(3 * time.Minute)
		p.Heal()
	}},
	"a lock is not released": {fires: []string{"LongWait"}, fault: func(f *fleet) {
		lock := f.etcd.Occupy("orders/5")
		time.Sleep(15 * time.Minute)
		require.NoError(f.t, lock.Unlock(f.t.Context()))
	}},
	"a lock is held most of the time": {fires: []string{"SlowAcquire"}, fault: func(f *fleet) {
		for range 24 {
			lock := f.etcd.Occupy("config")
			time.Sleep(30 * time.Second)
			require.NoError(f.t, lock.Unlock(f.t.Context()))
			time.Sleep(5 * time.Second)
		}
	}},
	"a call waits for a job that hangs": {fires: []string{"LongWait"}, fault: func(f *fleet) {
		lock, err := etcdlock.NewMutex(f.service("a").session, "report").Lock(f.t.Context())
		require.NoError(f.t, err)
		wait := make(chan struct{})
		go func() {
			defer close(wait)
			lock, err := etcdlock.NewMutex(f.service("b").session, "report").Lock(f.t.Context())
			assert.NoError(f.t, err)
			assert.NoError(f.t, lock.Unlock(f.t.Context()))
		}()
		time.Sleep(7 * time.Minute)
		require.NoError(f.t, lock.Unlock(f.t.Context()))
		<-wait
	}, over: map[string]time.Duration{"LongWait": 7*time.Minute + 2*scrapes}},
	"a lock that no call wants is not released": {fires: []string{"ForgottenUnlock"}, fault: func(f *fleet) {
		f.pause.Store(int64(time.Minute)) // the hour is long
		lock, err := etcdlock.NewMutex(f.service("a").session, "report").Lock(f.t.Context())
		require.NoError(f.t, err)
		time.Sleep(65 * time.Minute)
		require.NoError(f.t, lock.Unlock(f.t.Context()))
	}},
	"deletions of keys do not arrive": {fires: []string{"CleanupBacklog"}, fault: func(f *fleet) {
		f.etcd.Intercept(func(r etcdlocktest.Request) etcdlocktest.Action {
			m := fmt.Sprint(r.Message)
			return etcdlocktest.Action{DropRequest: strings.Contains(m, "report/") && strings.Contains(m, "delete_range")}
		})
		lock, err := etcdlock.NewMutex(f.service("a").session, "report").Lock(f.t.Context())
		require.NoError(f.t, err)
		ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
		defer cancel()
		require.ErrorIs(f.t, lock.Unlock(ctx), etcdlock.ErrUnconfirmed)
		time.Sleep(12 * time.Minute)
		f.etcd.Intercept(nil)
	}},
	"a former holder writes": {fires: []string{"StaleWrites"}, fault: func(f *fleet) {
		ctx := f.t.Context()
		write := func(process string) fence.Token {
			s := f.service(process)
			lock, err := etcdlock.NewMutex(s.session, "row").Lock(ctx)
			require.NoError(f.t, err)
			require.NoError(f.t, s.fence.Check(ctx, "row", fence.Of(lock, 0)))
			require.NoError(f.t, lock.Unlock(ctx))
			return fence.Of(lock, 0)
		}
		former := write("a")
		write("b")
		require.ErrorIs(f.t, f.service("a").fence.Check(ctx, "row", former), fence.ErrStale)
	}},
}

func TestEachAlertFiresForItsFault(t *testing.T) {
	rules, err := promdb.Rules("alerts.yaml")
	require.NoError(t, err)
	for what, s := range scenarios {
		t.Run(what, func(t *testing.T) {
			var began, ended time.Time
			db := run(t, func(f *fleet) {
				time.Sleep(calm)
				began = time.Now()
				s.fault(f)
				time.Sleep(5 * time.Minute)
				ended = time.Now()
			})
			fired := make(map[string]bool)
			for _, r := range rules {
				all, err := db.Fire(&r, began.Add(-calm), ended, scrapes)
				require.NoError(t, err)
				for _, a := range all {
					t.Log(a.From.Sub(began).Round(time.Second), a.To.Sub(began).Round(time.Second), a.Alert, a.Labels)
					require.True(t, a.From.After(began), "%s fires before the fault", a.Alert)
					if over, ok := s.over[strings.TrimPrefix(a.Alert, "Etcdlock")]; ok {
						require.Less(t, a.To.Sub(began), over, "%s goes on", a.Alert)
					}
					fired[a.Alert] = true
				}
			}
			want := make(map[string]bool)
			for _, name := range s.fires {
				want["Etcdlock"+name] = true
			}
			require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(fired)))
		})
	}
}

// An hour of a fleet that is deployed and scaled, and loses a process, fires nothing.
func TestAHealthyHourFiresNothing(t *testing.T) {
	rules, err := promdb.Rules("alerts.yaml")
	require.NoError(t, err)
	var began, ended time.Time
	db := run(t, func(f *fleet) {
		began = time.Now()
		time.Sleep(15 * time.Minute)
		for _, name := range []string{"a", "b", "c"} {
			f.restart(name, (*service).end, 20*time.Second)
			time.Sleep(time.Minute)
		}
		f.start("d", f.etcd)
		time.Sleep(20 * time.Minute)
		f.restart(f.etcd.Holder("scheduler"), (*service).kill, 30*time.Second)
		time.Sleep(time.Hour - time.Since(began))
		ended = time.Now()
	})
	for _, r := range rules {
		fired, err := db.Fire(&r, began, ended, scrapes)
		require.NoError(t, err)
		require.Empty(t, fired)
	}
	for _, r := range rules {
		metrics, err := promdb.Metrics(r.Expr)
		require.NoError(t, err)
		for _, m := range metrics {
			got, err := db.Range("count("+m+")", began, ended, scrapes)
			require.NoError(t, err)
			require.NotEmpty(t, got, "%s is silent because %s is missing", r.Alert, m)
		}
	}
}
