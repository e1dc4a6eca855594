package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A change that moves a rule's code past the list fails here, with the place where the
// code is now.
func TestEachMutationApplies(t *testing.T) {
	c, err := openCheckout()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(mutations), 160)
	rules := map[string]bool{}
	for _, m := range mutations {
		require.False(t, rules[m.takesOut], "listed twice: %s", m.takesOut)
		rules[m.takesOut] = true
		texts, err := m.apply(c)
		if err != nil {
			t.Errorf("%s: %v", m.takesOut, err)
		}
		for file, text := range texts {
			require.NotEqual(t, c.files[file], text, m.takesOut)
			_, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
			require.NoError(t, err, m.takesOut)
		}
		require.NotEmpty(t, m.tests, m.takesOut)
		for _, name := range m.tests {
			if _, err := c.testDir(name); err != nil {
				t.Errorf("%s: %v", m.takesOut, err)
			}
		}
	}
}

// aCheckout is one with the files of a text: a line "-- name --" before each.
func aCheckout(t *testing.T, files string) *checkout {
	t.Helper()
	root := t.TempDir()
	for _, file := range strings.Split(files, "-- ")[1:] {
		name, text, _ := strings.Cut(file, " --\n")
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	c, err := readCheckout(root)
	require.NoError(t, err)
	return c
}

const aLibrary = `
-- lock.go --
package etcdlock

// Lock has the word guard in its comment: guard()
func (m *Mutex) Lock() {
	guard()
	enter(
		m,
	)
}

func (h Hold[T]) Err() { look(); look() }

const (
	most = 40 // permits
	few  = 4
)

func flock() { linux() }
-- flock_other.go --
package etcdlock

func flock() { other() }
-- internal/queue/queue.go --
package queue

func (q *Queue) Enter() { guard() }
-- cmd/a/main.go --
package main

func main() { a() }
-- cmd/b/main.go --
package main

func main() { b() }
-- lock_test.go --
package etcdlock

func TestALock() { guard() }
-- internal/queue/queue_test.go --
package queue

func TestAQueue() {}
func TestTwice() {}
-- cmd/a/main_test.go --
package main

func TestTwice() {}
`

func TestAMutationIsFoundBySymbol(t *testing.T) {
	c := aCheckout(t, aLibrary)
	for _, tt := range []struct {
		symbol, from, to string
		file, want       string
	}{
		{"etcdlock.(*Mutex).Lock", "guard()", "", "lock.go", "Lock() {\n\t\n\tenter("},
		{"etcdlock.(*Mutex).Lock", "enter(m, )", "", "", "does not have the text"},
		{"etcdlock.(*Mutex).Lock", "enter( m, )", "leave()", "lock.go", "guard()\n\tleave()\n}"},
		{"etcdlock.most", "40", "1", "lock.go", "most = 1 // permits"},
		{"etcdlock.flock", "other()", "", "flock_other.go", "func flock() {  }"},
		{"queue.(*Queue).Enter", "guard()", "", "internal/queue/queue.go", "Enter() {  }"},
		{"internal/queue.(*Queue).Enter", "guard()", "", "internal/queue/queue.go", "Enter() {  }"},
		{"cmd/a.main", "a()", "", "cmd/a/main.go", "main() {  }"},

		{"main.main", "a()", "", "", "main.main is ambiguous, write the directory for the package: cmd/a/main.go:3, cmd/b/main.go:3"},
		{"etcdlock.Hold.Err", "look()", "", "", "has the text 2 times, make it longer: lock.go:11, lock.go:11"},
		// Moved to another package, renamed, moved to another function.
		{"lockmgr.(*Manager).Enter", "guard()", "", "", "there is no lockmgr.(*Manager).Enter\n\ttext: guard()\n\tthe text stands at internal/queue/queue.go:3 in queue.(*Queue).Enter; lock.go:5 in etcdlock.(*Mutex).Lock"},
		{"etcdlock.few", "most = 40", "", "", "etcdlock.few at lock.go:15 does not have the text\n\ttext: most = 40\n\tthe text stands at lock.go:14 in etcdlock.most"},
		// Changed itself.
		{"etcdlock.(*Mutex).Lock", "enterOnce(", "", "", "the line most like it is lock.go:6 in etcdlock.(*Mutex).Lock: enter("},
		{"etcdlock.(*Lock).Open", "if other(x) {", "", "", "the line most like it is flock_other.go:3 in etcdlock.flock: func flock() { other() }"},
	} {
		texts, err := (&mutation{edits: []edit{{tt.symbol, tt.from, tt.to}}}).apply(c)
		if tt.file == "" {
			require.ErrorContains(t, err, tt.want)
			continue
		}
		require.NoError(t, err)
		require.Len(t, texts, 1)
		require.Contains(t, texts[tt.file], tt.want)
	}
}

func TestTheEditsOfAMutationMayBeInOneFile(t *testing.T) {
	c := aCheckout(t, aLibrary)
	m := &mutation{edits: []edit{
		{"etcdlock.(*Mutex).Lock", "guard()", "nothing()"},
		{"etcdlock.few", "4", "5"},
		{"queue.(*Queue).Enter", "guard()", "nothing()"},
	}}
	texts, err := m.apply(c)
	require.NoError(t, err)
	require.Len(t, texts, 2)
	require.Contains(t, texts["lock.go"], "nothing()\n\tenter(")
	require.Contains(t, texts["lock.go"], "few  = 5")

	m.edits = append(m.edits, edit{"etcdlock.(*Mutex).Lock", "guard() enter(", "nothing("})
	_, err = m.apply(c)
	require.ErrorContains(t, err, "two edits overlap at lock.go:5")
}

func TestATestIsFoundByItsName(t *testing.T) {
	c := aCheckout(t, aLibrary)
	dir, err := c.testDir("TestAQueue")
	require.NoError(t, err)
	require.Equal(t, "internal/queue", dir)
	_, err = c.testDir("TestALocker")
	require.EqualError(t, err, "no test TestALocker; the nearest name is TestALock in .")
	_, err = c.testDir("TestTwice")
	require.EqualError(t, err, "tests named TestTwice in cmd/a and internal/queue: rename one")
}

func TestMutationsAreCombined(t *testing.T) {
	c := aCheckout(t, `
-- internal/queue/queue.go --
package queue

func (q *Queue) Enter(all ...int) (n int, err error) { look(all); return }

func (q *Queue) look(a, b int) {
	see()
}

func unnamed(int) { look() }

const most = 40
`)
	ms := []*mutation{
		{takesOut: "a", edits: []edit{{"queue.(*Queue).Enter", "look(all)", ""}}},
		{takesOut: "b", edits: []edit{{"queue.(*Queue).look", "see()", "undefined()"}, {"queue.(*Queue).Enter", "all);", "nil); look(nil);"}}},
		{takesOut: "c", edits: []edit{{"queue.unnamed", "look()", ""}}},
		{takesOut: "d", edits: []edit{{"queue.most", "40", "1"}}},
		{takesOut: "e", edits: []edit{{"queue.(*Queue).look", "(a, b int) {", "(a, b int) { return;"}}},
	}
	all, err := c.combine(ms)
	require.NoError(t, err)
	require.Equal(t, map[*mutation]string{ms[0]: "1", ms[1]: "2"}, all.numbers)
	text := all.texts["internal/queue/queue.go"]
	for _, want := range []string{
		"case \"1\":\n\t\treturn q.Enter__1(all..., )\n",
		"case \"2\":\n\t\treturn q.Enter__2(all..., )\n",
		"}\n look(all); return }\n\n",
		"func (q *Queue) Enter__1(all ...int) (n int, err error) { ; return }",
		"func (q *Queue) Enter__2(all ...int) (n int, err error) { look(nil); look(nil); return }",
		"case \"2\":\n\t\tq.look__2(a, b, )\n\t\treturn\n\t}\n\n\tsee()\n}\n",
		"func (q *Queue) look__2(a, b int) {\n\tundefined()\n}\n",
	} {
		require.Contains(t, text, want)
	}
	_, err = parser.ParseFile(token.NewFileSet(), "", text, 0)
	require.NoError(t, err)
	require.Contains(t, all.texts["internal/queue/mutation_number.go"], "package queue\n")

	line := 1 + strings.Count(text[:strings.Index(text, "undefined()")], "\n")
	require.Equal(t, []*mutation{ms[1]}, all.blame(fmt.Sprintf("# package\n/tmp/x/combined-internal+queue+queue.go:%d:2: undefined: undefined", line)))
	require.Empty(t, all.blame(fmt.Sprintf("/tmp/x/combined-internal+queue+queue.go:%d:2: undefined: x\n./other.go:1:1: y", line-8)))
}
