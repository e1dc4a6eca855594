package telemetry

import (
	"strings"
	"sync"
)

const (
	// MaxNames is how many names have series of their own.
	MaxNames = 100
	// Other is the label of all further ones.
	Other = "_other_"
)

// Names bounds the values of a label. The first MaxNames values have series of their own.
type Names struct{ known Once[string] }

// Label returns the value of the label for a name.
func (n *Names) Label(name string) string {
	name = strings.ToValidUTF8(name, "\uFFFD")
	if !n.known.add(name, MaxNames) {
		return Other
	}
	return name
}

// Once knows which keys it was given before.
type Once[K comparable] struct {
	mu    sync.Mutex // guards the field below
	known map[K]bool
}

// First reports whether it is given a key for the first time.
func (o *Once[K]) First(key K) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := !o.known[key]
	o.put(key)
	return first
}

// add adds a key unless there are most others, and reports whether the key is known.
func (o *Once[K]) add(key K, most int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known[key] && len(o.known) >= most {
		return false
	}
	o.put(key)
	return true
}

// put adds a key. Called with mu held.
func (o *Once[K]) put(key K) {
	if o.known == nil {
		o.known = make(map[K]bool)
	}
	o.known[key] = true
}
