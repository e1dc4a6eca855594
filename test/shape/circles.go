package main

import (
	"slices"
	"strings"
)

// graph tells for each name which names it uses.
type graph map[string]set

func (g graph) use(from, to string) {
	if g[from] == nil {
		g[from] = make(set)
	}
	g[from][to] = true
}

// circles returns the strongly connected components of more than one name, the largest
// one first (Tarjan's algorithm).
func (g graph) circles() [][]string {
	var (
		found      [][]string
		stack      []string
		index, low = make(map[string]int), make(map[string]int)
		onStack    = make(set)
		visit      func(name string)
		nodes      = make(set)
	)
	for from, to := range g {
		nodes[from] = true
		for name := range to {
			nodes[name] = true
		}
	}
	visit = func(name string) {
		index[name] = len(index) + 1
		low[name] = index[name]
		stack = append(stack, name)
		onStack[name] = true
		for _, next := range g[name].sorted() {
			if index[next] == 0 {
				visit(next)
				low[name] = min(low[name], low[next])
			} else if onStack[next] {
				low[name] = min(low[name], index[next])
			}
		}
		if low[name] != index[name] {
			return
		}
		from := slices.Index(stack, name)
		circle := slices.Sorted(slices.Values(stack[from:]))
		stack = stack[:from]
		for _, member := range circle {
			delete(onStack, member)
		}
		if len(circle) > 1 {
			found = append(found, circle)
		}
	}
	for _, name := range nodes.sorted() {
		if index[name] == 0 {
			visit(name)
		}
	}
	slices.SortFunc(found, func(a, b []string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return slices.Compare(a, b)
	})
	return found
}

// fileGraph tells which files of a package use what other files of it declare.
func (m *module) fileGraph(p *pkg) graph {
	g := make(graph)
	for id, used := range p.info.Uses {
		if used.Pkg() != p.types || !used.Pos().IsValid() {
			continue
		}
		if from, to := m.file(id.Pos()), m.file(used.Pos()); from != to {
			g.use(from, to)
		}
	}
	return g
}

func (m *module) fileCircles() table {
	t := table{title: "Circles of files", header: []string{"package", "files", "lines", "which"}}
	for _, p := range m.packages {
		lines := make(map[string]int)
		for _, f := range p.files {
			lines[m.file(f.Pos())] = m.fset.File(f.Pos()).LineCount()
		}
		for _, circle := range m.fileGraph(p).circles() {
			sum := 0
			for _, file := range circle {
				sum += lines[file]
			}
			t.add(p.name, len(circle), sum, strings.Join(circle, " "))
		}
	}
	return t
}

// packageCircles counts imports by tests too: without them the compiler allows no circle.
func (m *module) packageCircles() table {
	t := table{title: "Circles of packages, through the imports of tests", header: []string{"packages", "which"}}
	g, name := make(graph), make(map[string]string)
	for _, p := range m.packages {
		name[p.ImportPath] = p.name
	}
	for _, p := range m.packages {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if to := name[path]; to != "" && to != p.name {
				g.use(p.name, to)
			}
		}
	}
	for _, circle := range g.circles() {
		t.add(len(circle), strings.Join(circle, " "))
	}
	return t
}
