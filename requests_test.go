package etcdlock_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// oneTry lists the functions that send one try of a request by the context of their caller, and why.
// Their callers bound that context, or are on a list too.
var oneTry = map[string]string{
	"liveness.Config.replaceOnce":       "a try of replace",
	"lease.Grant":                       "a try of the session's",
	"lease.granted":                     "a try of the session's",
	"leaseid.chosen.LeaseGrant":         "hands a request on, with the ID that was asked for",
	"lease.Resume":                      "a try of the session's",
	"lease.Lease.Revoke":                "a try of the session's",
	"lease.Lease.Verify":                "a try of a look at a hold",
	"eviction.Find":                     "a try of a look at a hold",
	"eviction.Evict":                    "a try of the command or the page",
	"eviction.notice":                   "a try of Evict",
	"lockmgr.Manager.evictionOf":        "a try of a look at a hold",
	"lease.Config.renewOnce":            "a try of Keep and Resume",
	"lease.once.Renew":                  "a renewal by the client",
	"perclient.Renewals.Renew":          "a renewal on the shared stream",
	"perclient.Renewals.renewAlone":     "a renewal on a stream of its own",
	"etcdkv.quietKV.Range":              "sends for the client's KV",
	"etcdkv.quietKV.Put":                "sends for the client's KV",
	"etcdkv.quietKV.DeleteRange":        "sends for the client's KV",
	"etcdkv.quietKV.Txn":                "sends for the client's KV",
	"etcdkv.quietLease.LeaseGrant":      "sends for the client's Lease",
	"etcdkv.quietLease.LeaseRevoke":     "sends for the client's Lease",
	"etcdkv.quietLease.LeaseTimeToLive": "sends for the client's Lease",
	"etcdkv.direct.Txn":                 "sends for the client's KV",
	"timeline.trackedKV.Get":            "hands a request on, and looks at the answer",
	"timeline.trackedKV.Put":            "hands a request on, and looks at the answer",
	"timeline.trackedKV.Delete":         "hands a request on, and looks at the answer",
	"timeline.trackedKV.Txn":            "hands a request on, and looks at the answer",
	"timeline.trackedLeases.Grant":      "hands a request on, and looks at the answer",
	"timeline.trackedTransactor.Txn":    "hands a request on, and looks at the answer",
	"etcdkv.Writer.send":                "sends a try of Commit",
	"etcdkv.Writer.sendBatch":           "sends a try of Commit",
	"etcdkv.Writer.sendCompact":         "sends a try of Commit",
	"etcdkv.Writer.commitCompact":       "sends a try of Commit",
	"etcdkv.Writer.commit":              "sends a try of Commit",
	"queue.Queues.Foresee":              "a try",
	"queue.line.lookAhead":              "a try",
	"queue.line.lookAround":             "a try",
	"queue.Queue.adopt":                 "a try",
	"queue.Queue.tryEnter":              "a try",
	"queue.Queue.enter":                 "a try",
	"queue.Queue.EnterOnce":             "a try",
	"queue.Queue.TryEnterOnce":          "a try",
	"queue.shared.leaveNamed":           "a try",
	"queue.shared.LeaveOnce":            "a try",
	"queue.Queue.enterMarked":           "a try",
	"queue.Queue.LeaveAndEnter":         "a try",
	"queue.line.leaveMarked":            "a try",
	"queue.shared.leavePlain":           "a try",
	"queue.line.leaveUntold":            "a try of LeaveOnce",
	"queue.Queue.Forewarn":              "a try that is not needed",
	"queue.line.tellBehind":             "a try",
	"queue.line.readBehind":             "a try",
	"queue.line.beyond":                 "a try",
	"queue.line.refused":                "a try",
	"queue.line.besides":                "a try",
	"queue.Queue.firstNow":              "a try",
	"queue.Queue.First":                 "a try",
	"queue.Set.adopt":                   "a try",
	"queue.shared.leaveAll":             "a try",
}

// bounded lists the functions with requests that are bounded in another way than by insist, retry or a
// context with a deadline, and by what. Their callers need no bound.
var bounded = map[string]string{
	"queue.watching.create": "a timer ends the creation of the watch",
	"perclient.stream.run":  "a stream, on which each renewal has a bound",
	"watch.stream.run":      "a stream, on which the creation of each watch has a bound",
	"lockmgr.line.request":  "a pooled context ends it with the first bound",
	"etcdkv.callOptions":    "the client is answered here, and sends nothing",
}

// sending are the functions that hand a request on with the context of their caller, in a way that the
// test does not follow: in a struct, or through an interface.
var sending = []string{"etcdkv.Writer.Commit", "etcdkv.Transactor.Txn", "lease.Renewer.Renew"}

// insisting are the functions that bound each try of the function that they are given.
var insisting = []string{"insist", "Insist", "insistAloud", "retry", "Retry", "ask", "leaveBy"}

// bounding are the functions that return a context for one try first.
var bounding = []string{"context.WithTimeout", "context.WithTimeoutCause", "context.WithDeadline", "etcdkv.WithBound", "etcdkv.RequestContext", "etcdkv.Bound"}

// deriving are the functions with a first result that is bounded if the first argument is.
var deriving = []string{"context.WithCancel", "context.WithCancelCause", "context.WithValue", "clientv3.WithRequireLeader"}

// report R4: no code can send a request to etcd that hangs as long as a member does: the request has
// a bound for each try, or the function that sends it is on a list, with the reason.
func TestEachRequestToEtcdHasABoundForEachTry(t *testing.T) {
	p := loadPackages(t)
	found := p.unboundedFunctions()
	for name, at := range found {
		if oneTry[name] == "" && bounded[name] == "" {
			t.Errorf("%s: %s sends a request without a bound for each try: send it by insist or retry, "+
				"or list the function with the reason why it needs none", at, name)
		}
	}
	for _, list := range []map[string]string{oneTry, bounded} {
		for name := range list {
			if _, ok := found[name]; !ok {
				t.Errorf("%s is listed, and sends nothing without a bound", name)
			}
		}
	}
}

type packages struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   map[*ast.File]*types.Package
	info  *types.Info
	tries map[string]token.Position // functions that send without a bound
}

// loadPackages reads and type-checks the packages of the root module that a user's program links.
func loadPackages(t *testing.T) *packages {
	p := &packages{
		fset: token.NewFileSet(), pkg: make(map[*ast.File]*types.Package),
		info:  &types.Info{Uses: make(map[*ast.Ident]types.Object), Defs: make(map[*ast.Ident]types.Object), Types: make(map[ast.Expr]types.TypeAndValue)},
		tries: make(map[string]token.Position),
	}
	type listed struct {
		Dir, ImportPath, Export string
		GoFiles                 []string
	}
	exports := make(map[string]string)
	var own []listed
	list := json.NewDecoder(strings.NewReader(string(goCommand(t, "list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles",
		".", "./compat/...", "./leaderhttp"))))
	for {
		var l listed
		err := list.Decode(&l)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		exports[l.ImportPath] = l.Export
		if l.ImportPath == rootModule || strings.HasPrefix(l.ImportPath, rootModule+"/") {
			own = append(own, l)
		}
	}
	imports := importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, l := range own {
		var files []*ast.File
		for _, name := range l.GoFiles {
			f, err := parser.ParseFile(p.fset, filepath.Join(l.Dir, name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			files = append(files, f)
		}
		pkg, err := (&types.Config{Importer: imports}).Check(l.ImportPath, p.fset, files, p.info)
		require.NoError(t, err)
		for _, f := range files {
			p.pkg[f] = pkg
		}
		p.files = append(p.files, files...)
	}
	require.Greater(t, len(p.files), 100)
	return p
}

// unboundedFunctions are those that send without a bound, and where.
func (p *packages) unboundedFunctions() map[string]token.Position {
	for known := -1; known != len(p.tries); {
		known = len(p.tries)
		for _, f := range p.files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
					p.look(p.pkg[f].Name()+"."+receiver(fn)+fn.Name.Name, fn)
				}
			}
		}
	}
	return maps.Clone(p.tries)
}

// receiver is the name of a method's type, with a dot.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	t := fn.Recv.List[0].Type
	for {
		switch e := t.(type) {
		case *ast.StarExpr:
			t = e.X
		case *ast.IndexExpr:
			t = e.X
		case *ast.Ident:
			return e.Name + "."
		default:
			return ""
		}
	}
}

// look notes a function if it sends without a bound.
func (p *packages) look(name string, fn *ast.FuncDecl) {
	if _, ok := p.tries[name]; ok {
		return
	}
	isBounded := p.boundedContexts(fn)
	called, selected := make(map[ast.Expr]*ast.CallExpr), make(map[*ast.Ident]bool)
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			called[call.Fun] = call
		}
		var id *ast.Ident
		e, ok := n.(ast.Expr)
		switch n := n.(type) {
		case *ast.SelectorExpr:
			id = n.Sel
			selected[id] = true
		case *ast.Ident:
			if !selected[n] {
				id = n
			}
		}
		if !ok || id == nil || !p.sends(p.info.Uses[id]) {
			return true
		}
		call := called[e]
		if _, isFunc := p.info.Uses[id].(*types.Func); call == nil && !isFunc {
			return true // a variable that is compared, or set
		}
		if call == nil || len(call.Args) == 0 || !isBounded(call.Args[0]) {
			if _, ok := p.tries[name]; !ok {
				p.tries[name] = p.fset.Position(n.Pos())
			}
		}
		return true
	})
}

// sends tells whether a function sends a request by the context that is its first argument: a
// function or a field of etcd's client that does, or one that was found to send without a bound.
func (p *packages) sends(o types.Object) bool {
	if o == nil || o.Pkg() == nil {
		return false
	}
	sig, ok := o.Type().Underlying().(*types.Signature)
	if !ok || sig.Params().Len() == 0 || sig.Params().At(0).Type().String() != "context.Context" {
		return false
	}
	if fn, isFunc := o.(*types.Func); isFunc {
		if strings.HasPrefix(o.Pkg().Path(), "go.etcd.io/etcd/") {
			return sig.Recv() != nil
		}
		if o.Pkg().Path() == "google.golang.org/grpc" {
			return o.Name() == "Invoke" || o.Name() == "NewStream"
		}
		name := nameOfFunc(fn)
		_, tries := p.tries[name]
		return tries && bounded[name] == "" || slices.Contains(sending, name)
	}
	// A variable that holds a function: one that answers as etcd does sends as it does.
	return sig.Results().Len() == 2 && strings.Contains(sig.Results().At(0).Type().String(), "go.etcd.io/etcd/api/v3/etcdserverpb.")
}

// nameOfFunc is package.Type.name.
func nameOfFunc(fn *types.Func) string {
	name := fn.Pkg().Name() + "."
	if recv := fn.Signature().Recv(); recv != nil {
		t := recv.Type()
		if ptr, ok := t.(*types.Pointer); ok {
			t = ptr.Elem()
		}
		if named, ok := t.(*types.Named); ok {
			name += named.Obj().Name() + "."
		}
	}
	return name + fn.Name()
}

// boundedContexts tells of the expressions within a function whether they are a context that bounds
// one try.
func (p *packages) boundedContexts(fn *ast.FuncDecl) func(ast.Expr) bool {
	vars := make(map[types.Object]bool)
	isBounded := func(e ast.Expr) bool {
		if call, ok := e.(*ast.CallExpr); ok && len(call.Args) > 0 && slices.Contains(deriving, p.callee(call)) {
			e = call.Args[0]
		}
		id, ok := e.(*ast.Ident)
		return ok && vars[p.info.Uses[id]]
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := p.callee(n)
			if !slices.Contains(insisting, name[strings.LastIndex(name, ".")+1:]) {
				return true
			}
			for _, arg := range n.Args {
				if lit, ok := arg.(*ast.FuncLit); ok && len(lit.Type.Params.List) > 0 && len(lit.Type.Params.List[0].Names) > 0 {
					vars[p.info.Defs[lit.Type.Params.List[0].Names[0]]] = true
				}
			}
		case *ast.AssignStmt:
			call, ok := n.Rhs[0].(*ast.CallExpr)
			id, isIdent := n.Lhs[0].(*ast.Ident)
			if !ok || !isIdent || id.Name == "_" {
				return true
			}
			if name := p.callee(call); slices.Contains(bounding, name) || slices.Contains(deriving, name) && isBounded(call.Args[0]) {
				if o := p.info.Defs[id]; o != nil {
					vars[o] = true
				} else {
					vars[p.info.Uses[id]] = true
				}
			}
		}
		return true
	})
	return isBounded
}

// callee is package.name of a function that is called; the type of a method is left out.
func (p *packages) callee(call *ast.CallExpr) string {
	var id *ast.Ident
	switch f := call.Fun.(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return ""
	}
	o := p.info.Uses[id]
	if o == nil || o.Pkg() == nil {
		return ""
	}
	return o.Pkg().Name() + "." + o.Name()
}
