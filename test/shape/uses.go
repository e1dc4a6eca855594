package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// manyFields is the number of fields above which a struct is listed though it has no mutex.
const manyFields = 8

// owner is a struct type of the module.
type owner struct {
	name   string // with the package, as in "internal/queue.Queue"
	pkg    string
	fields []*field
}

// field is a field of an owner, with the files that use it. A file of another package is
// named with the package.
type field struct {
	owner  *owner
	name   string
	mutex  bool           // a sync.Mutex or sync.RWMutex
	uses   map[string]int // by file
	writes map[string]int
	locks  map[string]int // of a mutex: calls of Lock, RLock and their Try forms
}

// fieldUses are the uses of all fields in the module.
type fieldUses struct {
	m       *module
	byField map[*types.Var]*field
	ordered []*owner
}

func (m *module) uses() *fieldUses {
	u := &fieldUses{m: m, byField: make(map[*types.Var]*field)}
	for _, p := range m.packages {
		for _, f := range p.files {
			for _, d := range f.Decls {
				gen, ok := d.(*ast.GenDecl)
				if !ok || gen.Tok != token.TYPE {
					continue
				}
				for _, spec := range gen.Specs {
					u.declare(p, spec.(*ast.TypeSpec))
				}
			}
		}
	}
	sortBy(u.ordered, func(o *owner) string { return o.name })
	for _, p := range m.packages {
		for _, f := range p.files {
			u.inFile(p, f)
		}
	}
	return u
}

// declare adds a type that is written as a struct. One that is declared as another struct
// type has the fields of that one, and is none of its own.
func (u *fieldUses) declare(p *pkg, spec *ast.TypeSpec) {
	if _, ok := spec.Type.(*ast.StructType); !ok {
		return
	}
	st := p.info.Defs[spec.Name].Type().Underlying().(*types.Struct)
	o := &owner{name: p.name + "." + spec.Name.Name, pkg: p.name}
	if p.name == "." {
		o.name = spec.Name.Name
	}
	for v := range st.Fields() {
		f := &field{
			owner: o, name: v.Name(), mutex: isMutex(v.Type()),
			uses: make(map[string]int), writes: make(map[string]int), locks: make(map[string]int),
		}
		o.fields = append(o.fields, f)
		u.byField[v] = f
	}
	u.ordered = append(u.ordered, o)
}

func isMutex(t types.Type) bool {
	s := types.TypeString(t, nil)
	return s == "sync.Mutex" || s == "sync.RWMutex"
}

// inFile counts the uses in a file. Composite literals are not uses: they make a struct
// that no other code knows yet.
func (u *fieldUses) inFile(p *pkg, file *ast.File) {
	name := u.m.file(file.Pos())
	count := func(of *owner, in map[string]int) {
		if of.pkg != p.name {
			in[p.name+"/"+name]++
		} else {
			in[name]++
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		for _, e := range written(p, n) {
			for _, f := range u.writtenBy(p, e) {
				count(f.owner, f.writes)
			}
		}
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		path := u.path(p, sel)
		for _, f := range path {
			count(f.owner, f.uses)
		}
		// A method of an embedded mutex, or x.mu.Lock, in which x is a selector of its own.
		if s := p.info.Selections[sel]; s != nil && s.Kind() == types.MethodVal && isLock(s) {
			if len(path) == 0 {
				if x, ok := ast.Unparen(sel.X).(*ast.SelectorExpr); ok {
					path = u.path(p, x)
				}
			}
			if len(path) > 0 && path[len(path)-1].mutex {
				f := path[len(path)-1]
				count(f.owner, f.locks)
			}
		}
		return true
	})
}

func isLock(s *types.Selection) bool {
	fn, ok := s.Obj().(*types.Func)
	return ok && fn.Pkg() != nil && fn.Pkg().Path() == "sync" &&
		slices.Contains([]string{"Lock", "RLock", "TryLock", "TryRLock"}, fn.Name())
}

// path returns the fields that a selector passes through: the one it names, and those of
// embedded structs before it.
func (u *fieldUses) path(p *pkg, sel *ast.SelectorExpr) (fields []*field) {
	s := p.info.Selections[sel]
	if s == nil {
		return nil
	}
	t, index := s.Recv(), s.Index()
	if s.Kind() != types.FieldVal {
		index = index[:len(index)-1]
	}
	for _, i := range index {
		if ptr, ok := t.Underlying().(*types.Pointer); ok {
			t = ptr.Elem()
		}
		st, ok := t.Underlying().(*types.Struct)
		if !ok {
			break
		}
		v := st.Field(i)
		if f := u.byField[v.Origin()]; f != nil {
			fields = append(fields, f)
		}
		t = v.Type()
	}
	return fields
}

// written returns the expressions that a node writes to: the left side of an assignment,
// what ++, delete, close, clear and copy change, and an atomic value that is stored to.
func written(p *pkg, n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		switch fun := ast.Unparen(n.Fun).(type) {
		case *ast.Ident:
			if _, ok := p.info.Uses[fun].(*types.Builtin); ok && slices.Contains([]string{"delete", "close", "clear", "copy"}, fun.Name) {
				return n.Args[:1]
			}
		case *ast.SelectorExpr:
			fn, ok := p.info.Uses[fun.Sel].(*types.Func)
			if ok && fn.Pkg() != nil && fn.Pkg().Path() == "sync/atomic" && fn.Signature().Recv() != nil && fn.Name() != "Load" {
				return []ast.Expr{fun.X}
			}
		}
	}
	return nil
}

// writtenBy returns the fields that a write to e changes. A write to x.a.b changes a too
// if a is a struct and no pointer.
func (u *fieldUses) writtenBy(p *pkg, e ast.Expr) (fields []*field) {
	for e != nil {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			fields = append(fields, u.path(p, x)...)
			if tv, ok := p.info.Types[x.X]; !ok {
				return fields
			} else if _, pointer := tv.Type.Underlying().(*types.Pointer); pointer {
				return fields
			}
			e = x.X
		default:
			return fields
		}
	}
	return fields
}

// listed returns the structs that have a mutex, or many fields of which one is written
// after its struct was made.
func (u *fieldUses) listed() (owners []*owner) {
	for _, o := range u.ordered {
		mutex, mutable := false, false
		for _, f := range o.fields {
			mutex = mutex || f.mutex
			mutable = mutable || len(f.writes) > 0
		}
		if mutex || mutable && len(o.fields) > manyFields {
			owners = append(owners, o)
		}
	}
	return owners
}

func (u *fieldUses) owners() table {
	t := table{
		title:  fmt.Sprintf("Mutable structs with a mutex or more than %d fields, and the files that use and write their fields", manyFields),
		header: []string{"struct", "fields", "used in", "written in", "which write"},
	}
	for _, o := range u.listed() {
		uses, writes := make(set), make(set)
		for _, f := range o.fields {
			for file := range f.uses {
				uses[file] = true
			}
			for file := range f.writes {
				writes[file] = true
			}
		}
		t.add(o.name, len(o.fields), len(uses), len(writes), strings.Join(writes.sorted(), " "))
	}
	return t
}

// fields lists what is in the way of an owner: fields that more than one file writes.
func (u *fieldUses) fields() table {
	t := table{
		title:  "Fields of these that more than one file writes",
		header: []string{"field", "used in", "written in", "which write"},
	}
	for _, o := range u.listed() {
		for _, f := range o.fields {
			if len(f.writes) < 2 {
				continue
			}
			writes := make(set)
			for file := range f.writes {
				writes[file] = true
			}
			t.add(o.name+"."+f.name, len(f.uses), len(f.writes), strings.Join(writes.sorted(), " "))
		}
	}
	return t
}

func (u *fieldUses) mutexes() table {
	t := table{
		title:  "Mutexes (by file: lock sites/uses)",
		header: []string{"mutex", "files", "lock sites", "uses", "by file"},
	}
	for _, o := range u.listed() {
		for _, f := range o.fields {
			if !f.mutex {
				continue
			}
			files, locks, uses := make(set), 0, 0
			for file, n := range f.uses {
				files[file] = true
				locks += f.locks[file]
				uses += n
			}
			var by []string
			for _, file := range files.sorted() {
				by = append(by, fmt.Sprintf("%s %d/%d", file, f.locks[file], f.uses[file]))
			}
			t.add(o.name+"."+f.name, len(files), locks, uses, strings.Join(by, ", "))
		}
	}
	return t
}
