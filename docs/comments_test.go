package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostPronouns is how many of the words of pronouns may be among 1,000 words of comments.
const mostPronouns = 0.3

// pronouns name no actor. A comment names the process, session, waiter or caller.
var pronouns = regexp.MustCompile(`(?i)\b(who|whoever|whom|whose|he|him|his)\b`)

// prosaic is a count of words, and of the pronouns among them.
type prosaic struct{ words, pronouns int }

func (p *prosaic) add(text string) {
	p.words += len(strings.Fields(text))
	p.pronouns += len(pronouns.FindAllString(text, -1))
}

// few reports whether there are so few pronouns that they do not matter. One is allowed anywhere.
func (p *prosaic) few() bool {
	return p.pronouns <= 1 || float64(p.pronouns) < mostPronouns*float64(p.words)/1000
}

// comments are the comments of all code, by package, and of the exported declarations of the root
// module. Tests have a count of their own for each package. The other modules have one count each.
type comments struct {
	packages map[string]*prosaic
	exported prosaic
}

func countComments(t *testing.T) *comments {
	c := &comments{packages: make(map[string]*prosaic)}
	eachGoFile(t, func(path string) { require.NoError(t, c.addFile(path)) })
	for _, module := range []string{"adapters", "bench", "cmd", "examples", "release", "test"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("..", module), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			c.count(module+"/...", f)
			return nil
		}))
	}
	return c
}

func (c *comments) count(name string, f *ast.File) {
	if c.packages[name] == nil {
		c.packages[name] = &prosaic{}
	}
	for _, group := range f.Comments {
		c.packages[name].add(group.Text())
	}
}

func (c *comments) addFile(path string) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel("..", filepath.Dir(path))
	if err != nil {
		return err
	}
	name := filepath.ToSlash(rel)
	test := strings.HasSuffix(path, "_test.go")
	if test {
		name += " tests"
	}
	c.count(name, f)
	if test || strings.Contains(name, "internal/") {
		return nil
	}
	c.exported.add(f.Doc.Text())
	for _, d := range f.Decls {
		c.addExported(d)
	}
	return nil
}

// addExported adds the comments that pkg.go.dev shows of a declaration.
func (c *comments) addExported(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() {
			c.exported.add(d.Doc.Text())
		}
	case *ast.GenDecl:
		shown := false
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				shown = shown || n.Name.IsExported()
				if n.Name.IsExported() {
					c.exported.add(n.Doc.Text())
				}
				return n.Name.IsExported()
			case *ast.ValueSpec:
				shown = shown || n.Names[0].IsExported()
				if n.Names[0].IsExported() {
					c.exported.add(n.Doc.Text() + n.Comment.Text())
				}
			case *ast.Field:
				if len(n.Names) > 0 && n.Names[0].IsExported() {
					c.exported.add(n.Doc.Text() + n.Comment.Text())
				}
			}
			return true
		})
		if shown {
			c.exported.add(d.Doc.Text())
		}
	}
}

// The comments of the code name the actor.
func TestTheCommentsNameTheActor(t *testing.T) {
	c := countComments(t)
	require.Greater(t, c.exported.words, 10_000, "the exported comments are not found")
	require.True(t, c.exported.few(), "exported comments: %d of %d words are who, he and the like", c.exported.pronouns, c.exported.words)
	var all prosaic
	for name, p := range c.packages {
		all.words += p.words
		if !p.few() {
			t.Errorf("%s: %d of %d words of the comments are who, he and the like, at most %v in 1,000: name the actor", name, p.pronouns, p.words, mostPronouns)
		}
	}
	require.Greater(t, all.words, 50_000, "the comments are not found")
}
