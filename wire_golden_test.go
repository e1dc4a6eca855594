package etcdlock_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/compat/concurrency"
)

const wireFile = "docs/wire.txt"

const wireHead = `What the library writes to etcd, byte for byte. TestTheWireLayout writes this file from a simulated
etcd, and fails if a byte changes. After a change that is meant: go test -run TestTheWireLayout . -update

    -- a is killed                              what happens next
    a: grant lease <L1> of 10 s                 by the client a, with its TTL
    <R1> a: create "jobs/42/<L1>"               a new key, written at revision R1
        ` + "`{\"owner\":\"a\"}`" + `                         its value
        lease <L1>                              its lease
    <R2> b: rewrite "jobs/42/<L1>"              a new value for a key
        if the mod revision = <R1>              what the transaction compares before that
    <R3> etcd: delete "jobs/42/<L1>"            with the lease, which has ended

Keys and values stand between quotes, with Go's escapes, or as they are between backquotes. Changes of one revision
were made by one transaction. What a transaction compares before it creates a key is left out, as are all requests that
change nothing.

Placeholders: <L1> is the ID of a lease, in hexadecimal as keys have it, <hex of L1> its digits in hexadecimal once
more, and <R1> a revision. <time> is a time in UTC as RFC 3339 has it, <host>, <pid> and <program> are those of the process, and
<scope> tells which processes share a loopback interface.
`

// Keys and values are what processes of different versions have in common.
func TestTheWireLayout(t *testing.T) {
	want, err := os.ReadFile(wireFile)
	require.NoError(t, err)
	sections := strings.Split(string(want), wireTitle)
	all := slices.Concat(etcdlock.WireLocks, etcdlock.WireElections, etcdlock.WireSessions, wireCompat)
	out := []string{wireHead}
	for i, s := range all {
		t.Run(s.Title, func(t *testing.T) {
			section := s.Title + "\n\n" + etcdlock.RecordWire(t, s.Run) + "\n"
			out = append(out, section)
			if !*update {
				require.Greater(t, len(sections), i+1, "it is not in %s", wireFile)
				require.Equal(t, sections[i+1], section, "what is written to etcd is not that of %s", wireFile)
			}
		})
	}
	if *update {
		require.NoError(t, os.WriteFile(wireFile, []byte(strings.Join(out, wireTitle)), 0o600))
		return
	}
	require.Equal(t, wireHead, sections[0])
	require.Len(t, sections, 1+len(all), "%s has more than the scenarios", wireFile)
}

const wireTitle = "\n## " // in front of the title of a scenario

// wireCompat are the scenarios of the package compat/concurrency.
var wireCompat = []etcdlock.WireScenario{
	{Title: "compat/concurrency: Mutex and Locker", Run: func(w *etcdlock.Wire) {
		ctx := context.Background()
		s := compatOn(w, "a")
		m := concurrency.NewMutex(s, "jobs/")
		require.NoError(w, m.Lock(ctx))
		require.NoError(w, m.Unlock(ctx))
		require.NoError(w, m.TryLock(ctx))
		require.NoError(w, m.Unlock(ctx))
		w.Step("Locker")
		l := concurrency.NewLocker(s, "jobs")
		l.Lock()
		l.Unlock() //nolint:staticcheck // the empty section writes as any other
		w.Step("Close")
		require.NoError(w, s.Close())
	}},
	{Title: "compat/concurrency: Election, and one that is resumed", Run: func(w *etcdlock.Wire) {
		ctx := context.Background()
		s := compatOn(w, "a")
		e := concurrency.NewElection(s, "e")
		require.NoError(w, e.Campaign(ctx, "host-a"))
		require.NoError(w, e.Campaign(ctx, "host-a again"))
		require.NoError(w, e.Proclaim(ctx, "host-a:80"))
		w.Step("Orphan")
		key, rev := e.Key(), e.Rev()
		s.Orphan()
		w.Step("a2 goes on")
		s = compatOn(w, "a2", concurrency.WithLease(s.Lease()))
		resumed := concurrency.ResumeElection(s, "e/", key, rev)
		require.NoError(w, resumed.Proclaim(ctx, "host-a2:80"))
		require.NoError(w, resumed.Resign(ctx))
		require.NoError(w, s.Close())
	}},
	{Title: "compat/concurrency: a second Lock of a session with WithReentry writes nothing", Run: func(w *etcdlock.Wire) {
		ctx := context.Background()
		s := compatOn(w, "a", concurrency.WithReentry())
		one, two := concurrency.NewMutex(s, "m"), concurrency.NewMutex(s, "m")
		require.NoError(w, one.Lock(ctx))
		w.Step("the second Lock")
		require.NoError(w, two.Lock(ctx))
		w.Step("Unlock of both")
		require.NoError(w, two.Unlock(ctx))
		_ = one.Unlock(ctx)
		require.NoError(w, s.Close())
	}},
}

func compatOn(w *etcdlock.Wire, client string, opts ...concurrency.SessionOption) *concurrency.Session {
	s, err := concurrency.NewSession(w.Client(client).Client, append([]concurrency.SessionOption{concurrency.WithTTL(10)}, opts...)...)
	require.NoError(w, err)
	return s
}

// silent are the functions and methods that are in no scenario, by the reason.
var silent = map[string]string{
	"tells of what the process knows": `Client CreateRevision Context HoldOf Deadline Done Err Guard Guards Is Error Key Keys Lease LeaseTTL Leading Len Name
		Names Paused Permits State States Stats Status String TTL Token Vacant Value Ctx Header Hold IsOwner Rev Term`,
	"reads":                            "Adopted Candidates Deadlocks Leader Limit Observe Queue",
	"decides when to end a hold":       "WithMargin WithExitWhenStuck WithOnStuck Progress",
	"tells the program, or a log":      "WithLogger WithSlog LogTrace ErrorType WithMonitor WithOnLeader WithOnRole Handler",
	"bounds the creation of a session": "WithContext",
}

var (
	apiPackage = regexp.MustCompile(`(?m)^package (\w+) //`)
	apiFunc    = regexp.MustCompile(`^func (\(.*?\) )?(\w+)\(`)
)

// Each function, option and method of the exported API is in a scenario, or on the list of those
// that write nothing of their own.
func TestEveryOptionIsInAScenarioOfTheWireLayout(t *testing.T) {
	used := usedInScenarios(t)
	quiet := map[string]bool{}
	for _, names := range silent {
		for _, name := range strings.Fields(names) {
			quiet[name] = true
		}
	}
	known := map[string]bool{}
	api, err := os.ReadFile(exportedFile)
	require.NoError(t, err)
	pkg := ""
	for line := range strings.Lines(string(api)) {
		if m := apiPackage.FindStringSubmatch(line); m != nil {
			pkg = m[1]
		}
		m := apiFunc.FindStringSubmatch(line)
		// The fence knows nothing of etcd, and the test kit writes by the API.
		if m == nil || strings.HasPrefix(pkg, "fence") || pkg == "etcdlocktest" {
			continue
		}
		name := m[2]
		known[name] = true
		if m[1] == "" && pkg != rootPackage { // a function of another package is called by its name there
			name = pkg + "." + name
		}
		if !used[name] && !quiet[m[2]] {
			t.Errorf("%s of package %s is in no scenario of %s: write one, or list it in silent, with the reason", m[2], pkg, wireFile)
		}
	}
	for name := range quiet {
		require.True(t, known[name], "%s is listed in silent, and is not exported", name)
	}
}

const rootPackage = "etcdlock"

// usedInScenarios are the names that stand in scenarios, and in the helpers of tests that these call;
// functions of another package with its name.
func usedInScenarios(t *testing.T) map[string]bool {
	helpers := map[string][]ast.Node{} // functions of tests, by name
	used := map[string]bool{}
	var look func(ast.Node)
	look = func(node ast.Node) {
		ast.Inspect(node, func(n ast.Node) bool {
			name := ""
			switch n := n.(type) {
			case *ast.SelectorExpr:
				name = n.Sel.Name
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "concurrency" {
					name = x.Name + "." + name
				}
			case *ast.Ident:
				name = n.Name
			}
			if name != "" && !used[name] {
				used[name] = true
				for _, body := range helpers[name] {
					look(body)
				}
			}
			return true
		})
	}
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var scenarios []ast.Node
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Body != nil && slices.Contains([]string{"", "world.", "Wire."}, receiver(d)) {
					helpers[d.Name.Name] = append(helpers[d.Name.Name], d.Body)
				}
			case *ast.GenDecl:
				if strings.HasPrefix(name, "wire_") && d.Tok == token.VAR {
					scenarios = append(scenarios, d)
				}
			}
		}
	}
	for _, s := range scenarios {
		look(s)
	}
	return used
}
