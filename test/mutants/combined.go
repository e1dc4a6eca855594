package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// To build the tests once for each mutation takes most of the time. Most mutations are in
// functions that can be called from themselves, so these go into one build: beside each
// function stands a copy for each of its mutations, and the function calls the copy with
// the number that the environment has:
//
//	func (q *Queue) Enter(ctx context.Context, w Want) (*Entry, error) {
//		switch mutationNumber {
//		case "7":
//			return q.Enter__7(ctx, w)
//		}
//		... as it was
//
// A mutation that is not caught in that way is tried in a build of its own: a test may start a
// program with another environment.

// numberVariable is the variable of the environment that chooses a mutation.
const numberVariable = "ETCDLOCK_MUTATION"

// inOne names what is built of many mutations.
const inOne = "combined"

// combined is the source with several mutations in it.
type combined struct {
	numbers map[*mutation]string
	texts   map[string]string // the changed files, by path from the root
}

// combine puts those of the mutations into one source that can be.
func (c *checkout) combine(ms []*mutation) (*combined, error) {
	all := &combined{map[*mutation]string{}, map[string]string{}}
	copies := map[decl]map[string][]place{} // by the numbers of the mutations
	for i, m := range ms {
		places, err := c.places(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.takesOut, err)
		}
		if slices.ContainsFunc(places, func(p place) bool {
			return p.decl.function == nil || p.from < p.decl.function.body
		}) {
			continue
		}
		number := strconv.Itoa(i + 1)
		all.numbers[m] = number
		for _, p := range places {
			if copies[p.decl] == nil {
				copies[p.decl] = map[string][]place{}
			}
			copies[p.decl][number] = append(copies[p.decl][number], p)
		}
	}
	var decls []decl
	for d := range copies {
		decls = append(decls, d)
	}
	slices.SortFunc(decls, func(a, b decl) int { return b.from - a.from }) // the last one of a file first
	for _, d := range decls {
		text, ok := all.texts[d.file]
		if !ok {
			text = c.files[d.file]
		}
		all.texts[d.file] = text[:d.from] + withCopies(text[d.from:d.to], d, copies[d]) + text[d.to:]
		pkg, _, _ := strings.Cut(d.symbol, ".")
		all.texts[path.Join(path.Dir(d.file), "mutation_number.go")] = fmt.Sprintf(
			"package %s\n\nimport \"os\"\n\nvar mutationNumber = os.Getenv(%q)\n", pkg, numberVariable)
	}
	return all, nil
}

// withCopies is a function that calls a copy of itself if that is chosen, and the copies.
func withCopies(text string, d decl, copies map[string][]place) string {
	f := *d.function
	f.name -= d.from
	f.body -= d.from
	var choose, others strings.Builder
	for number, places := range copies {
		call := fmt.Sprintf(f.call, "__"+number)
		if f.results {
			call = "return " + call
		} else {
			call += "\n\t\treturn"
		}
		fmt.Fprintf(&choose, "\tcase %q:\n\t\t%s\n", number, call)
		mutated := exchange(text, d.from, places)
		fmt.Fprintf(&others, "\n\n%s__%s%s", mutated[:f.name], number, mutated[f.name:])
	}
	return text[:f.body] + "\n\tswitch mutationNumber {\n" + choose.String() + "\t}\n" + text[f.body:] + others.String()
}

var (
	compileError = regexp.MustCompile(`([^/\s:]+\.go):(\d+):`)
	copied       = regexp.MustCompile(`^func .*?__(\d+)\(`)
)

// blame returns the mutations that an output of the compiler is about.
func (all *combined) blame(output string) (ms []*mutation) {
	for _, match := range compileError.FindAllStringSubmatch(output, -1) {
		for file, text := range all.texts {
			line, _ := strconv.Atoi(match[2])
			lines := strings.Split(text, "\n")
			if overlaid(inOne, file) != match[1] || line > len(lines) {
				continue
			}
			for ; line > 0 && !strings.HasPrefix(lines[line-1], "func "); line-- {
			}
			if line == 0 {
				continue
			}
			if number := copied.FindStringSubmatch(lines[line-1]); number != nil {
				for m, n := range all.numbers {
					if n == number[1] && !slices.Contains(ms, m) {
						ms = append(ms, m)
					}
				}
			}
		}
	}
	return ms
}
