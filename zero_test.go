package etcdlock_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

// handles are the types with state of their own. Their zero values come from programs that forgot to
// set a field.
var handles = []any{
	new(etcdlock.Lock), new(etcdlock.WriteLock), new(etcdlock.ReadLock), new(etcdlock.Permit), new(etcdlock.Term), new(etcdlock.LockSet),
	new(etcdlock.Mutex), new(etcdlock.RWMutex), new(etcdlock.Semaphore), new(etcdlock.MultiMutex), new(etcdlock.Striped),
	new(etcdlock.Election), new(etcdlock.Monitor), new(etcdlock.Session),
}

// values are types without state of their own. Errors are made by this package alone.
var values = []any{
	etcdlock.Deadlock{}, new(etcdlock.DeadlockError), new(etcdlock.LimitError), new(etcdlock.LockedError), etcdlock.ElectionStatus{},
	etcdlock.Kind(0), etcdlock.Leader{}, etcdlock.Mode(""), etcdlock.Path(0), etcdlock.Role(0), etcdlock.State(0),
}

// otherErrors are what methods of a zero value return in place of ErrInvalidArgument.
var otherErrors = map[string]error{
	"Monitor.Candidates": etcdlock.ErrNoLeader, // the zero Monitor is ready for use
}

// Each exported method of a zero value returns an error or an empty result.
func TestNoMethodOfAZeroValuePanics(t *testing.T) {
	for _, all := range [][]any{handles, values} {
		for _, v := range all {
			typ := reflect.TypeOf(v)
			name := reflect.Indirect(reflect.ValueOf(v)).Type().Name()
			for i := range typ.NumMethod() {
				method := name + "." + typ.Method(i).Name
				t.Run(method, func(t *testing.T) {
					defer func() {
						if r := recover(); r != nil {
							t.Errorf("panic: %v", r)
						}
					}()
					callZero(t, method, reflect.ValueOf(v).Method(i))
				})
			}
		}
	}
}

// callZero calls a method with arguments that a correct value could have.
func callZero(t *testing.T, method string, f reflect.Value) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var args []reflect.Value
	for i := range f.Type().NumIn() {
		switch in := f.Type().In(i); {
		case f.Type().IsVariadic() && i == f.Type().NumIn()-1:
		case in == reflect.TypeFor[context.Context]():
			args = append(args, reflect.ValueOf(ctx))
		case in.Kind() == reflect.String:
			args = append(args, reflect.ValueOf("name"))
		case in.Kind() == reflect.Int:
			args = append(args, reflect.ValueOf(1))
		case in.Kind() == reflect.Func:
			args = append(args, reflect.MakeFunc(in, func([]reflect.Value) []reflect.Value {
				t.Error("the work is done without a hold")
				return []reflect.Value{reflect.Zero(in.Out(0))}
			}))
		default:
			args = append(args, reflect.Zero(in))
		}
	}
	results := f.Call(args)
	for _, r := range results {
		switch r := r.Interface().(type) {
		case iter.Seq2[etcdlock.Leader, error]:
			for _, err := range r {
				requireInvalid(t, method, err)
				break
			}
		case iter.Seq[etcdlock.State]:
			for range r {
				break
			}
		case *etcdlock.Mutex: // of Striped.For
			_, err := r.Lock(ctx)
			requireInvalid(t, method, err)
		}
	}
	if n := len(results); n > 0 && f.Type().Out(n-1) == reflect.TypeFor[error]() {
		err, _ := results[n-1].Interface().(error)
		requireInvalid(t, method, err)
	}
}

func requireInvalid(t *testing.T, method string, err error) {
	t.Helper()
	want, other := otherErrors[method]
	if !other {
		want = etcdlock.ErrInvalidArgument
	}
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

// A new type with methods is in one of the lists above.
func TestEachTypeWithMethodsIsCalledAsAZeroValue(t *testing.T) {
	api, err := os.ReadFile(exportedFile)
	require.NoError(t, err)
	root, _, _ := strings.Cut(string(api), "\n\npackage ")
	seen := map[string]bool{}
	for _, all := range [][]any{handles, values} {
		for _, v := range all {
			seen[reflect.Indirect(reflect.ValueOf(v)).Type().Name()] = true
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^func \(\w+ \*?(\w+)\)`).FindAllStringSubmatch(root, -1) {
		require.True(t, seen[m[1]], "%s has methods: enter it in handles or values", m[1])
	}
}
