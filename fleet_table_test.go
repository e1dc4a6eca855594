package etcdlock

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// exported are the exported functions and methods of this package, by its source.
func exported(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.IsExported() {
				names = append(names, receiver(f)+f.Name.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return !ast.IsExported(name) })
}

// receiver is the type of a method and a point. The methods of hold are those of each handle of
// one name, of which Lock stands for all.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if of := of.(*ast.Ident).Name; of != "hold" {
		return of + "."
	}
	return "Lock."
}

// An option that is not in the fleet's table is one that no simulation draws. // report T2
func TestEveryOptionIsAFactorOfTheFleet(t *testing.T) {
	drawn := map[string]bool{}
	for i := range factors {
		f := &factors[i]
		drawn[f.option] = true
		// Left out is a value too.
		require.GreaterOrEqual(t, len(f.values), 1, f.id())
		require.False(t, f.always && len(f.values) < 2, "%s has one value", f.id())
		for _, v := range f.values {
			given := 0
			for _, set := range []bool{v.session != nil, v.lock != nil, v.election != nil, v.run != nil} {
				if set {
					given++
				}
			}
			require.Equal(t, 1, given, f.id())
		}
	}
	for _, name := range exported(t) {
		if strings.HasPrefix(name, "With") {
			require.True(t, drawn[name], "%s is drawn by no process of the fleet: enter it in factors", name)
			delete(drawn, name)
		}
	}
	require.Empty(t, drawn, "there are no such options")
}

// report T2
func TestEveryOperationIsOneOfTheFleet(t *testing.T) {
	all := exported(t)
	for _, name := range all {
		if !strings.HasPrefix(name, "With") && !strings.HasSuffix(name, "Error.Error") && !strings.HasSuffix(name, "Error.Is") {
			require.Contains(t, operations, name, "no process of the fleet calls it: enter it in operations, and call it")
		}
	}
	for _, op := range operations {
		if ast.IsExported(op) && !strings.HasPrefix(op, "Err") && !strings.Contains(op, " ") {
			require.Contains(t, all, op, "there is no such operation")
		}
	}
}

// A combination that the fleet does not draw is refused where it is given, so that no user has it either.
func TestWhatTheFleetDoesNotCombineIsRefused(t *testing.T) {
	for _, x := range exclusions {
		if x.idle {
			continue
		}
		refused := row(make([]int, len(factors)))
		for i := range factors {
			if factors[i].always || factors[i].id() == x.a || factors[i].id() == x.b && !x.without {
				refused[i] = 1
			}
		}
		simulate(t, func(w *world) {
			f := &deployment{world: w, fleetReferee: newFleetReferee(w), cover: newCoverage(), net: newFakeNet(), dir: t.TempDir()}
			p := f.newProcess(&instance{}, 1)
			p.row = refused
			p.given = 1
			var sessionOpts []SessionOption
			for _, v := range refused.chosen("session") {
				sessionOpts = append(sessionOpts, v.session(p))
			}
			if strings.HasPrefix(x.a, "session.") {
				_, err := NewSession(w.ctx, w.Client("a").Client, sessionOpts...)
				require.ErrorIs(t, err, ErrInvalidOption, "%s and %s: %s", x.a, x.b, x.reason)
				return
			}
			var opts []RunOption
			for _, v := range refused.chosen("run") {
				opts = append(opts, v.run(p))
			}
			require.NotEmpty(t, opts)
			err := NewElection(w.session("a", WithTTL(3*time.Second)), "e").Run(w.ctx, "v", nil, opts...)
			require.ErrorIs(t, err, ErrInvalidOption, "%s without %s: %s", x.a, x.b, x.reason)
		})
	}
}

// A row never holds what is excluded, and each value of each factor is drawn.
func TestRowsOfTheFleet(t *testing.T) {
	seen := map[[2]int]bool{}
	for seed := range uint64(500) {
		r := drawRow(newRand(seed, 0))
		for i := range r {
			seen[[2]int{i, r[i]}] = true
			for j := range i {
				if excluded(j, r[j], i, r[i]) {
					t.Fatalf("%s with %s", factors[j].level(r[j]), factors[i].level(r[i]))
				}
			}
		}
	}
	eachLevel(func(i, a int) { require.True(t, seen[[2]int{i, a}], factors[i].level(a)) })
}
