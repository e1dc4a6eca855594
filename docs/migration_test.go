package docs

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient connects to an etcd in memory.
func newClient() *clientv3.Client {
	return simetcd.New(simetcd.Config{}).Client("example").Client
}

var snippet = regexp.MustCompile("(?s)<!-- (\\S+_test\\.go) -->\n```go\n(.*?)```")

// What the text shows is what is compiled.
func TestEachSnippetStandsInItsProgram(t *testing.T) {
	for _, page := range []string{"migration.md", "elections.md"} { // report E2: the second
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		snippets := snippet.FindAllStringSubmatch(string(text), -1)
		require.Len(t, snippets, strings.Count(string(text), "<!-- "))
		require.NotEmpty(t, snippets)
		for _, s := range snippets {
			program, err := os.ReadFile(s[1])
			require.NoError(t, err)
			require.True(t, contains(lines(string(program)), lines(s[2])), "%s has no such lines:\n%s", s[1], s[2])
		}
	}
}

// lines are those of a program without their indentation.
func lines(s string) []string {
	var all []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

func contains(all, part []string) bool {
	for i := range len(all) - len(part) + 1 {
		if slices.Equal(all[i:i+len(part)], part) {
			return true
		}
	}
	return false
}
