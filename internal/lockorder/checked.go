//go:build lockorder

// Package lockorder is documented in mutex.go.
package lockorder

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// The mutexes of the owners that they are named after.
type (
	Session = checked[session]
	Manager = checked[manager]
	Hold    = checked[hold]
	Lease   = checked[lease]
)

// owner has its name, and the names of the owners of the mutexes that may be held when its own is
// taken.
type owner interface {
	order() (name string, after []string)
}

type (
	session struct{}
	manager struct{}
	hold    struct{}
	lease   struct{}
)

func (session) order() (string, []string) { return "session", nil }
func (manager) order() (string, []string) { return "manager", []string{"session"} }
func (hold) order() (string, []string)    { return "hold", []string{"session", "manager"} }
func (lease) order() (string, []string)   { return "lease", []string{"session"} }

// checked is a mutex that panics when it is taken in a wrong order.
type checked[O owner] struct {
	mu   sync.Mutex
	held int64 // number of the goroutine that holds it; guarded by mu

	// Taken is how often the mutex was taken. It is guarded by the mutex.
	Taken int
}

func (c *checked[O]) Lock() {
	var o O
	name, after := o.order()
	id := goroutine()
	all.check(id, name, after)
	c.mu.Lock()
	c.held = id
	c.Taken++
	all.add(id, name, 1)
	if see := observer.Load(); see != nil {
		(*see)(name, c)
	}
}

func (c *checked[O]) Unlock() {
	var o O
	name, _ := o.order()
	id := c.held
	c.held = 0
	c.mu.Unlock()
	all.add(id, name, -1)
}

var observer atomic.Pointer[func(owner string, mutex any)]

// Observe calls see with each mutex that is taken, which is held meanwhile, until stop is called.
func Observe(see func(owner string, mutex any)) (stop func()) {
	observer.Store(&see)
	return func() { observer.Store(nil) }
}

// held has the mutexes that each goroutine holds, by the names of their owners.
type held struct {
	mu sync.Mutex
	by map[int64]map[string]int
}

var all = held{by: make(map[int64]map[string]int)}

func (h *held) check(id int64, name string, after []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other, n := range h.by[id] {
		if n > 0 && !slices.Contains(after, other) {
			panic(fmt.Sprintf("lockorder: the mutex of a %s is taken while that of a %s is held", name, other))
		}
	}
}

func (h *held) add(id int64, name string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by[id] == nil {
		h.by[id] = make(map[string]int)
	}
	if h.by[id][name] += n; h.by[id][name] == 0 {
		delete(h.by[id], name)
	}
	if len(h.by[id]) == 0 {
		delete(h.by, id)
	}
}

// goroutine returns the number of the calling goroutine, from its stack trace.
func goroutine() int64 {
	var buf [64]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	id, err := strconv.ParseInt(string(text[:bytes.IndexByte(text, ' ')]), 10, 64)
	if err != nil {
		panic(err)
	}
	return id
}
