package lockmgr

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// lists are the fields that have a member for each hold, name or local queue of a manager.
var lists = map[string]bool{"byID": true, "all": true, "readers": true, "noted": true, "found": true}

// Package roster walks such lists, and has the mutex for roster.Batch members at a time. No function
// of the manager walks one of them by itself.
func TestNoFunctionOfTheManagerWalksAllLocalQueuesOrHolds(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	walks := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.RangeStmt:
				ast.Inspect(n.X, func(x ast.Node) bool {
					if field, ok := x.(*ast.SelectorExpr); ok {
						require.False(t, lists[field.Sel.Name], "%v: a loop over Manager.%s", fset.Position(n.Pos()), field.Sel.Name)
					}
					return true
				})
			case *ast.SelectorExpr:
				if n.Sel.Name == "Walk" {
					walks++
				}
			}
			return true
		})
	}
	require.Positive(t, walks)
}

const many = 10_000

// lockMany acquires many names, each third one as a reader. Some are released, and their keys are
// kept.
func lockMany(m *managed) (held int) {
	for i := range many {
		r := exclusive()
		if i%3 == 0 {
			r = shared()
		}
		r.Terms.Retention = time.Hour
		if h := m.lock(fmt.Sprint("m", i), r); i%100 == 1 {
			m.rig.unlock(h)
		} else {
			held++
		}
	}
	return held
}

func TestALossEndsAndCountsEachOfManyHolds(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		held := lockMany(m)
		m.present.End(errEnded)
		r.pass(time.Minute)
		require.EqualValues(r, held, m.lost.Load())
		require.Equal(r, Snapshot{Admission: "open"}, m.Snapshot())
	})
}

func TestASuspendedSessionGivesUpManyKeptKeys(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		held := lockMany(m)
		m.Suspend(m.number, true)
		r.pass(time.Second)
		require.Len(r, r.Keys("m"), held)
	})
}

func TestADrainWaitsForManyReleases(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		held := lockMany(m)
		r.Client("a").SetLatency(time.Second, time.Second)
		ctx, cancel := context.WithTimeout(r.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorContains(r, m.Drain(ctx), "are not confirmed yet")
		require.NoError(r, m.Drain(r.Context()))
		require.Len(r, r.Keys("m"), held)
		_, err := m.Acquire(r.Context(), "n", exclusive())
		require.ErrorIs(r, err, lockerr.ErrSessionClosed)
	})
}

// A drain looks at many holds, and releases the mutex in between. It closes the manager only if none of
// them was released meanwhile.
func TestADrainIsNotOverIfAHoldWasReleasedDuringItsLook(t *testing.T) {
	simulate(t, func(r *rig) {
		m := r.manager("a")
		h := m.lock("m", exclusive())
		ends := m.ends
		require.Zero(r, m.pending())
		r.Client("a").SetLatency(time.Second, time.Second)
		h.Abandon()
		m.closeIf(ends)
		require.Equal(r, "open", m.Snapshot().Admission)
		require.NoError(r, m.Drain(r.Context()))
		require.Empty(r, r.Keys("m"))
	})
}
