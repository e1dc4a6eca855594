package mixin

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence"
	"github.com/etcdlock/etcdlock/mixin/internal/promdb"
)

var update = flag.Bool("update", false, "write what is seen as what is expected")

const dashboardFile = "dashboard.json"

// resolve replaces the variables of Grafana in a query that is evaluated at each step.
func resolve(expr string, step time.Duration) string {
	rate := max(step+scrapes, 4*scrapes) // as in Grafana, so that no event falls between two steps
	return strings.NewReplacer("$job", "billing", "$__rate_interval", rate.String()).Replace(expr)
}

// After a change of panels.go:
//
//	go test -run TestTheDashboard . -update
func TestTheDashboardIsWhatThePanelsSay(t *testing.T) {
	text, err := dashboard()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(dashboardFile, text, 0o600))
	}
	got, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	require.Equal(t, string(text), string(got))
}

// shown is a panel as it is in the file that users import.
type shown struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H float64 }
	Targets     []struct{ Expr, LegendFormat string }
}

func panels(t *testing.T) []shown {
	text, err := os.ReadFile(dashboardFile)
	require.NoError(t, err)
	var d struct{ Panels []shown }
	require.NoError(t, json.Unmarshal(text, &d))
	require.Len(t, d.Panels, 30)
	return d.Panels
}

// Each query has data in an hour with incidents. With -update the hour is drawn, as "make dashboard"
// does.
func TestEachPanelHasDataInAnHourWithIncidents(t *testing.T) {
	db, began := incidents(t)
	if *update {
		drawDashboard(t, "../docs/pictures/dashboard.svg", db, began)
	}
	for _, p := range panels(t) {
		for _, q := range p.Targets {
			got, err := db.Range(resolve(q.Expr, scrapes), began, began.Add(time.Hour), scrapes)
			require.NoError(t, err)
			require.NotEmpty(t, got, "%s: %s", p.Title, q.Expr)
		}
	}
}

// incidents is an hour in which most of what the alerts are for happens.
func incidents(t *testing.T) (db *promdb.DB, began time.Time) {
	db = run(t, func(f *fleet) {
		time.Sleep(time.Minute)
		began = time.Now()
		at := func(minute int) { time.Sleep(time.Until(began.Add(time.Duration(minute) * time.Minute))) }
		at(6)
		f.term.Store(int64(90 * time.Second))
		at(16)
		f.term.Store(0)
		at(20)
		cut := f.service("a").process
		cut.Cut()
		at(23)
		cut.Heal()
		at(27)
		f.unhealthy.Store(true)
		at(30)
		f.unhealthy.Store(false)
		at(34)
		f.service("b").process.SlowRenewals(5 * time.Second)
		at(37)
		f.service("b").process.Heal()
		at(40)
		lock := f.etcd.Occupy("orders/5")
		at(44)
		require.NoError(t, lock.Unlock(f.t.Context()))
		at(48)
		f.stubborn.Store(int64(2 * time.Minute))
		f.etcd.Evict("scheduler")
		at(54)
		require.NoError(t, f.service("c").fence.Check(f.t.Context(), "row/1", fence.Token{Value: 3}))
		require.ErrorIs(t, f.service("b").fence.Check(f.t.Context(), "row/1", fence.Token{Value: 2}), fence.ErrStale)
		at(60)
	})
	return db, began
}
