package concurrency_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	etcd "go.etcd.io/etcd/client/v3/concurrency"

	ours "github.com/etcdlock/etcdlock/compat/concurrency"
)

// pairs has every exported name of etcd's package that this one has: etcd's and ours.
var pairs = map[string][2]any{
	"NewSession":     {etcd.NewSession, ours.NewSession},
	"WithTTL":        {etcd.WithTTL, ours.WithTTL},
	"WithLease":      {etcd.WithLease, ours.WithLease},
	"WithContext":    {etcd.WithContext, ours.WithContext},
	"NewMutex":       {etcd.NewMutex, ours.NewMutex},
	"NewLocker":      {etcd.NewLocker, ours.NewLocker},
	"NewElection":    {etcd.NewElection, ours.NewElection},
	"ResumeElection": {etcd.ResumeElection, ours.ResumeElection},

	"Session":       {(*etcd.Session)(nil), (*ours.Session)(nil)},
	"SessionOption": {(*etcd.SessionOption)(nil), (*ours.SessionOption)(nil)},
	"Mutex":         {(*etcd.Mutex)(nil), (*ours.Mutex)(nil)},
	"Election":      {(*etcd.Election)(nil), (*ours.Election)(nil)},

	"ErrLocked":            {etcd.ErrLocked, ours.ErrLocked},
	"ErrSessionExpired":    {etcd.ErrSessionExpired, ours.ErrSessionExpired},
	"ErrLockReleased":      {etcd.ErrLockReleased, ours.ErrLockReleased},
	"ErrElectionNotLeader": {etcd.ErrElectionNotLeader, ours.ErrElectionNotLeader},
	"ErrElectionNoLeader":  {etcd.ErrElectionNoLeader, ours.ErrElectionNoLeader},
}

// stays is what belongs to the software transactional memory.
var stays = []string{
	"STM", "STMOption", "NewSTM", "NewSTMReadCommitted", "NewSTMRepeatable", "NewSTMSerializable",
	"Isolation", "SerializableSnapshot", "Serializable", "RepeatableReads", "ReadCommitted",
	"WithIsolation", "WithAbortContext", "WithPrefetch",
}

// A new name in a later version of etcd's package fails this.
func TestEveryNameOfEtcdsPackageIsHereOrIsSTM(t *testing.T) {
	var known []string
	for name := range pairs {
		known = append(known, name)
	}
	require.ElementsMatch(t, append(known, stays...), exported(t, "go.etcd.io/etcd/client/v3/concurrency"))
}

func TestEverySignatureIsThatOfEtcdsPackage(t *testing.T) {
	for name, pair := range pairs {
		theirs, mine := reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1])
		require.True(t, same(theirs, mine), "%s: %v, here %v", name, theirs, mine)
		if err, ok := pair[0].(error); ok {
			require.True(t, err == pair[1].(error), "%s is another value", name) //nolint:errorlint // the very value
		}
		for i := range theirs.NumMethod() {
			want := theirs.Method(i)
			got, ok := mine.MethodByName(want.Name)
			require.True(t, ok, "%s.%s is missing", name, want.Name)
			require.True(t, same(want.Type, got.Type), "%s.%s: %v, here %v", name, want.Name, want.Type, got.Type)
		}
		if theirs.Kind() == reflect.Pointer && theirs.Elem().Kind() == reflect.Struct {
			for _, f := range reflect.VisibleFields(theirs.Elem()) {
				require.False(t, f.IsExported(), "%s.%s is missing", name, f.Name)
			}
		}
	}
}

// The test must be able to fail.
func TestOtherSignaturesAreToldApart(t *testing.T) {
	require.False(t, same(reflect.TypeOf(etcd.NewMutex), reflect.TypeOf(ours.NewElection)))
	require.False(t, same(reflect.TypeOf(etcd.WithTTL), reflect.TypeOf(ours.WithLease)))
	require.False(t, same(reflect.TypeOf(etcd.ResumeElection), reflect.TypeOf(ours.NewElection)))
}

const oursPath = "github.com/etcdlock/etcdlock/compat/concurrency"

// same tells whether two types are one, taking a type of etcd's package for that of the
// same name here.
func same(a, b reflect.Type) bool {
	switch {
	case a == b:
		return true
	case a.Kind() != b.Kind():
		return false
	case a.Name() != "":
		// What lies in an exported function type is part of its signature as well.
		return a.PkgPath() == "go.etcd.io/etcd/client/v3/concurrency" && b.PkgPath() == oursPath && a.Name() == b.Name() &&
			(a.Kind() != reflect.Func || parts(a, b))
	}
	return parts(a, b)
}

func parts(a, b reflect.Type) bool {
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice:
		return same(a.Elem(), b.Elem())
	case reflect.Chan:
		return a.ChanDir() == b.ChanDir() && same(a.Elem(), b.Elem())
	case reflect.Func:
		if a.NumIn() != b.NumIn() || a.NumOut() != b.NumOut() || a.IsVariadic() != b.IsVariadic() {
			return false
		}
		for i := range a.NumIn() {
			if !same(a.In(i), b.In(i)) {
				return false
			}
		}
		for i := range a.NumOut() {
			if !same(a.Out(i), b.Out(i)) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// exported are the exported names at the top level of a package, from its source.
func exported(t *testing.T, path string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=Dir,GoFiles", path).Output()
	require.NoError(t, err)
	var pkg struct {
		Dir     string
		GoFiles []string
	}
	require.NoError(t, json.Unmarshal(out, &pkg))
	var names []string
	add := func(id *ast.Ident) {
		if id.IsExported() {
			names = append(names, id.Name)
		}
	}
	for _, file := range pkg.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, file), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						add(s.Name)
					case *ast.ValueSpec:
						for _, id := range s.Names {
							add(id)
						}
					}
				}
			}
		}
	}
	require.NotEmpty(t, names, strings.Join(pkg.GoFiles, " "))
	return names
}
