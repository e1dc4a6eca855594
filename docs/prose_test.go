package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// maxColumns and maxWords bound a line and a sentence of a page.
const (
	maxColumns = 100
	maxWords   = 30
)

// hardWordsAllowed is how many hard words a page may have.
const hardWordsAllowed = 1

// long are pages in which a reader looks something up. They may have more than 200 lines.
var long = map[string]bool{
	"docs/design.md":             true,
	"docs/facts.md":              true,
	"docs/traps.md":              true,
	"docs/verification-chaos.md": true,
}

// hardWords make technical English hard to read: pronouns that name no actor, and old forms.
var hardWords = regexp.MustCompile(`(?i)\b(who|whoever|whom|whose|somebody|anybody|he|him|his|` +
	`lest|be it|but for|all the same|anew|as a rule|at length|for\s+ever|those (who|which|that|of|in))\b`)

// paragraph is a text that stands by itself: a paragraph, an item of a list, or a cell of a table.
type paragraph struct {
	line int
	text string
}

// markdown is a page without its code blocks and comments.
type markdown struct {
	file       string
	lines      []string // code blocks are empty lines
	paragraphs []paragraph
	anchors    map[string]bool
}

var (
	fence    = regexp.MustCompile("^\\s*```")
	item     = regexp.MustCompile(`^\s*([-*+]|\d+\.)\s+`)
	heading  = regexp.MustCompile(`^#{1,6}\s+`)
	code     = regexp.MustCompile("`[^`]*`")
	linked   = regexp.MustCompile(`!?\[([^\]]*)\]\(([^)\s]+)\)`)
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N}\-_ ]`)
	comment  = regexp.MustCompile(`<!--.*?-->`)
	sentence = regexp.MustCompile(`[.!?]["')]*(\s+|$)`)
)

func parse(t *testing.T, file string) *markdown {
	text, err := os.ReadFile(filepath.Join("..", file))
	require.NoError(t, err)
	m := &markdown{file: file, anchors: make(map[string]bool)}
	var p paragraph
	end := func() {
		if strings.TrimSpace(p.text) != "" {
			m.paragraphs = append(m.paragraphs, p)
		}
		p = paragraph{}
	}
	inCode := false
	for i, line := range strings.Split(string(text), "\n") {
		isFence := fence.MatchString(line)
		if isFence {
			inCode = !inCode
		}
		if inCode || isFence || strings.HasPrefix(line, "    ") && strings.TrimSpace(p.text) == "" {
			line = ""
		}
		line = comment.ReplaceAllString(line, "")
		m.lines = append(m.lines, line)
		switch {
		case strings.TrimSpace(line) == "":
			end()
		case heading.MatchString(line):
			end()
			m.addAnchor(heading.ReplaceAllString(line, ""))
		case isTable(line):
			end()
			for _, cell := range strings.Split(line, "|") {
				m.paragraphs = append(m.paragraphs, paragraph{i + 1, cell})
			}
		default:
			if item.MatchString(line) {
				end()
				line = item.ReplaceAllString(line, "")
			}
			if p.line == 0 {
				p.line = i + 1
			}
			p.text += line + " "
		}
	}
	end()
	return m
}

func isTable(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "|") }

// isPicture reports whether a line is a picture: its alternative text cannot be wrapped.
func isPicture(line string) bool { return strings.HasPrefix(line, "![") }

// addAnchor adds the anchor that GitHub gives a heading.
func (m *markdown) addAnchor(title string) {
	title = linked.ReplaceAllString(title, "$1")
	slug := noAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
	slug = strings.ReplaceAll(slug, " ", "-")
	for n, a := 1, slug; ; n++ {
		if !m.anchors[a] {
			m.anchors[a] = true
			return
		}
		a = fmt.Sprintf("%s-%d", slug, n)
	}
}

// prose is a text without its code and the targets of its links.
func prose(text string) string {
	return linked.ReplaceAllString(code.ReplaceAllString(text, "code"), "$1")
}

// pages are the Markdown files of the repository.
func pages(t *testing.T) []string {
	var all []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "results"):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			rel, err := filepath.Rel("..", path)
			all = append(all, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(all), 15)
	return all
}

// The prose of all pages: short lines, short sentences, plain words.
func TestThePagesArePlain(t *testing.T) {
	for _, file := range pages(t) {
		t.Run(file, func(t *testing.T) {
			for _, fault := range faults(parse(t, file)) {
				t.Errorf("%s:%s", file, fault)
			}
		})
	}
}

// faults are what is wrong with the prose of a page, each with its line.
func faults(m *markdown) []string {
	var found, hard []string
	for i, line := range m.lines {
		if n := len([]rune(line)); n > maxColumns && !isTable(line) && !isPicture(line) {
			found = append(found, fmt.Sprintf("%d: %d columns, at most %d", i+1, n, maxColumns))
		}
	}
	for _, p := range m.paragraphs {
		text := prose(p.text)
		for _, s := range sentence.Split(text, -1) {
			if n := len(strings.Fields(s)); n > maxWords {
				found = append(found, fmt.Sprintf("%d: a sentence of %d words, at most %d: %s", p.line, n, maxWords, strings.TrimSpace(s)))
			}
		}
		for _, word := range hardWords.FindAllString(text, -1) {
			hard = append(hard, fmt.Sprintf("%d: %q", p.line, word))
		}
	}
	if len(hard) > hardWordsAllowed {
		found = append(found, fmt.Sprintf("1: %d hard words, at most %d: %s", len(hard), hardWordsAllowed, strings.Join(hard, ", ")))
	}
	return found
}

func TestTheFaultsOfAPageAreFound(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("word ", 31) + "word."
	text := "# A title\n\n" +
		"Whoever waits, and somebody else.\n\n" +
		strings.ReplaceAll(long, "word word", "word\nword") + "\n\n" +
		"| " + long + " |\n\n" +
		strings.Repeat("x", 101) + "\n\n```go\n" + strings.Repeat("who ", 40) + "\n```\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page.md"), []byte(text), 0o600))
	t.Chdir(filepath.Join(dir))
	require.NoError(t, os.Mkdir("docs", 0o700))
	t.Chdir("docs")

	all := strings.Join(faults(parse(t, "page.md")), "\n")
	require.Contains(t, all, "101 columns")
	require.Equal(t, 2, strings.Count(all, "a sentence of 32 words"), all)
	require.Contains(t, all, `2 hard words, at most 1: 3: "Whoever", 3: "somebody"`)
	require.Len(t, faults(parse(t, "page.md")), 4, all)
}

// Every link inside the repository leads to a file, and to a heading of it.
func TestTheLinksResolve(t *testing.T) {
	parsed := make(map[string]*markdown)
	for _, file := range pages(t) {
		parsed[file] = parse(t, file)
	}
	links := 0
	for file, m := range parsed {
		for i, line := range m.lines {
			for _, match := range linked.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				target := match[2]
				if strings.Contains(target, "://") {
					continue
				}
				links++
				path, anchor, _ := strings.Cut(target, "#")
				to := file
				if path != "" {
					to = filepath.ToSlash(filepath.Join(filepath.Dir(file), path))
				}
				_, err := os.Stat(filepath.Join("..", to))
				require.NoError(t, err, "%s:%d: %s", file, i+1, target)
				if anchor != "" && parsed[to] != nil {
					require.True(t, parsed[to].anchors[anchor], "%s:%d: %s has no heading #%s", file, i+1, to, anchor)
				}
			}
		}
	}
	require.Greater(t, links, 50)
}

// Each picture has an alternative text that says what it shows.
func TestEachPictureHasAnAlternativeText(t *testing.T) {
	picture := regexp.MustCompile(`!\[([^\]]*)\]\(([^)]*)\)`)
	found := 0
	for _, file := range pages(t) {
		for i, line := range parse(t, file).lines {
			for _, match := range picture.FindAllStringSubmatch(line, -1) {
				found++
				require.Greater(t, len(strings.Fields(match[1])), 5, "%s:%d: %s", file, i+1, match[2])
			}
		}
	}
	require.Greater(t, found, 5)
}

// The sizes that make a guide readable at one sitting, and the index that names each of them.
func TestTheGuidesAreShortAndIndexed(t *testing.T) {
	size := func(file string) int { return len(parse(t, file).lines) - 1 }
	require.Less(t, size("README.md"), 150)
	index, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, file := range pages(t) {
		name, ok := strings.CutPrefix(file, "docs/")
		if !ok || name == "README.md" {
			continue
		}
		require.Contains(t, string(index), "("+name+")", "docs/README.md does not name %s", name)
		if !long[file] {
			require.Less(t, size(file), 200, "%s is too long for a guide", file)
		}
	}
}

// docs/errors.md says of each exported error what it means and what to do.
func TestEachErrorIsExplained(t *testing.T) {
	exported, err := os.ReadFile("api.txt")
	require.NoError(t, err)
	page, err := os.ReadFile("errors.md")
	require.NoError(t, err)
	root, _, _ := strings.Cut(string(exported), "\npackage leaderhttp")
	names := regexp.MustCompile(`(?m)^var (Err\w+)$`).FindAllStringSubmatch(root, -1)
	names = append(names, regexp.MustCompile(`(?m)^type (\w+Error) struct`).FindAllStringSubmatch(root, -1)...)
	require.Greater(t, len(names), 25)
	for _, name := range names {
		require.Regexp(t, `(?m)^(\| |#+ )`+"`"+name[1]+"`", string(page), "docs/errors.md has no row for %s", name[1])
	}
}

// Logs have the text of a reason and not its name, so docs/errors.md has both.
func TestTheTextOfEachReasonOfALossIsOnThePage(t *testing.T) {
	page, err := os.ReadFile("errors.md")
	require.NoError(t, err)
	for name, reason := range map[string]error{
		"ErrLost": etcdlock.ErrLost, "ErrExpired": etcdlock.ErrExpired, "ErrRevoked": etcdlock.ErrRevoked, "ErrEvicted": etcdlock.ErrEvicted,
		"ErrRolledBack": etcdlock.ErrRolledBack, "ErrOrphaned": etcdlock.ErrOrphaned, "ErrClientClosed": etcdlock.ErrClientClosed,
	} {
		require.Contains(t, string(page), "| `"+name+"` | "+reason.Error()+" |")
	}
}

func TestTheLongPagesExist(t *testing.T) {
	all := pages(t)
	for file := range long {
		require.True(t, slices.Contains(all, file), "there is no %s", file)
	}
}
