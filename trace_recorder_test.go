//go:build lockorder

package etcdlock

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockorder"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/states"
)

// step is one event of a run: a mutex is taken, a request is sent, or a state changes.
type step struct {
	at        time.Time
	goroutine int64
	parent    int64  // the goroutine that started this one
	process   string // the client that sends the request; of other steps it is found at the end
	mutex     any    // nil if the step takes none
	thread    string // the process, and the function that the goroutine began with
	function  string
	file      string
	does      string
}

// trace records the steps of a run in virtual time. A step belongs to the process that sends requests in
// the same goroutine or in its parent, or that uses the same mutex.
type trace struct {
	w       *world
	starved atomic.Bool // true: no renewal reaches etcd

	mu    sync.Mutex
	steps []*step
	on    bool // true: steps are recorded
	from  int  // the first step to show
}

// record makes a trace. It is called before there are sessions.
func record(w *world) *trace {
	r := &trace{w: w}
	w.Intercept(func(c simetcd.Call) simetcd.Action {
		switch c.Kind { //nolint:exhaustive // the rest is sent by the goroutines of streams
		case simetcd.LeaseKeepAlive:
			return simetcd.Action{DropRequest: r.starved.Load()}
		case simetcd.Watch, simetcd.WatchCancel, simetcd.WatchProgress:
		default:
			r.add(&step{process: c.Client, does: "sends `" + c.Kind.String() + "`"})
		}
		return simetcd.Action{}
	})
	before := states.Taken
	states.Taken = func(of string, from, to any) {
		r.add(&step{does: fmt.Sprintf("%s: %v → %v", of, from, to)})
	}
	stop := lockorder.Observe(func(owner string, mutex any) {
		r.add(&step{mutex: mutex, does: "takes `" + strings.ToUpper(owner[:1]) + owner[1:] + "`"})
	})
	w.Cleanup(func() {
		states.Taken = before
		stop()
	})
	return r
}

// begin begins to record, after the sessions were made. From now on each call needs a goroutine of its
// own.
func (r *trace) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = true
}

// show begins the part of the run that is shown.
func (r *trace) show() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = len(r.steps)
}

// plumbing has the packages and setters between a step and the function that makes it.
var plumbing = regexp.MustCompile(`/internal/(simetcd|etcdkv|leaseid|lockorder|roster|states|timeline)\.|\.(become|drive|enter)$`)

var (
	closure         = regexp.MustCompile(`(\.(func|gowrap|deferwrap)?\d+)+$`)
	pointerReceiver = regexp.MustCompile(`\(\*(\w+)(?:\[\.\.\.\])?\)`)
)

// place is a function of the library on a stack.
type place struct{ pkg, function, file string }

// stack has the functions of the library on the stack, the innermost one first. Closures stand for the
// function that they are in.
func stack() (places []place) {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if !strings.HasPrefix(f.Function, "github.com/etcdlock/etcdlock") || strings.HasSuffix(f.File, "_test.go") ||
			strings.HasPrefix(f.File, "<") || plumbing.MatchString(f.Function) {
			continue
		}
		pkg, function, _ := strings.Cut(path.Base(f.Function), ".")
		file := path.Base(f.File)
		if pkg != "etcdlock" {
			file = pkg + "/" + file
		}
		places = append(places, place{pkg, pointerReceiver.ReplaceAllString(function, "$1"), file})
	}
	return places
}

// add records a step. The functions of a lease are left out unless a timer calls them.
func (r *trace) add(s *step) {
	s.at = time.Now()
	s.goroutine, s.parent = goroutines()
	places := stack()
	if len(places) == 0 {
		return // of the test itself
	}
	outer := len(places) - 1
	for outer > 0 && closure.MatchString(places[outer].function) {
		outer--
	}
	inner := 0
	for inner < outer && places[inner].pkg == "lease" {
		inner++
	}
	s.thread = closure.ReplaceAllString(places[outer].function, "")
	s.function, s.file = closure.ReplaceAllString(places[inner].function, ""), places[inner].file
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on {
		r.steps = append(r.steps, s)
	}
}

var ids = regexp.MustCompile(`(?s)^goroutine (\d+) .*?(?:in goroutine (\d+))?\n[^\n]*\n$`)

// goroutines are the number of this goroutine, and of the one that started it.
func goroutines() (own, parent int64) {
	buf := make([]byte, 1<<16)
	match := ids.FindSubmatch(buf[:runtime.Stack(buf, false)])
	own, _ = strconv.ParseInt(string(match[1]), 10, 64)
	parent, _ = strconv.ParseInt(string(match[2]), 10, 64)
	return own, parent
}

// attribute finds the process of each step.
func (r *trace) attribute() {
	known := make(map[any]string) // of goroutines and mutexes
	for changed := true; changed; {
		changed = false
		for _, s := range r.steps {
			own := []any{s.goroutine}
			if s.mutex != nil {
				own = append(own, s.mutex)
			}
			for _, k := range append(own, s.parent) {
				s.process = cmp.Or(s.process, known[k])
			}
			for _, k := range own {
				if s.process != "" && known[k] == "" {
					known[k], changed = s.process, true
				}
			}
		}
	}
}

// end ends the trace.
func (r *trace) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
}

// result returns the steps that are shown.
func (r *trace) result() []*step {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attribute()
	steps := slices.Clone(r.steps[r.from:])
	names, count := make(map[int64]string), make(map[string]int)
	for _, s := range steps {
		require.NotEmpty(r.w, s.process, "the process of %+v", s)
		if names[s.goroutine] == "" {
			name := fmt.Sprintf("%s: `%s`", s.process, s.thread)
			if count[name]++; count[name] > 1 {
				name += fmt.Sprintf(" %d", count[name])
			}
			names[s.goroutine] = name
		}
		s.thread = names[s.goroutine]
	}
	return steps
}
