package docs

import (
	"go/format"
	"os"
	"path/filepath"
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

// snippet is a block of Go with the comment before it, which names the file that it is taken from.
var snippet = regexp.MustCompile("(?ms)(?:^<!-- ([^\\n]*) -->\n)?^```go\n(.*?)^```")

// anotherLibrary marks code that needs a library which this module does not require.
const anotherLibrary = "another library"

// What a page shows is what is compiled. Code for another library only has the form of Go.
func TestEachBlockOfGoIsCompiled(t *testing.T) {
	blocks := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join("..", page))
		require.NoError(t, err)
		for _, s := range snippet.FindAllStringSubmatch(string(text), -1) {
			blocks++
			if s[1] == anotherLibrary {
				_, err := format.Source([]byte(s[2]))
				require.NoError(t, err, "%s:\n%s", page, s[2])
				continue
			}
			require.NotEmpty(t, s[1], "%s: name the Go file that has these lines, as <!-- file.go -->:\n%s", page, s[2])
			program, err := os.ReadFile(filepath.Join("..", filepath.Dir(page), s[1]))
			require.NoError(t, err)
			require.True(t, contains(lines(string(program)), lines(s[2])), "%s: %s has no such lines:\n%s", page, s[1], s[2])
		}
	}
	require.Greater(t, blocks, 10)
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
