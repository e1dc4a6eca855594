package otellock

import (
	"strings"
	"sync"
)

const (
	// MaxNames is how many elections, and how many groups of names, have series of their own.
	MaxNames = 100
	// Other is the attribute of all further ones.
	Other = "_other_"
)

// names bounds the values of an attribute. The first MaxNames values have series of their own.
type names struct {
	mu    sync.Mutex
	known map[string]bool
}

// label returns the value of the attribute for a name.
func (n *names) label(name string) string {
	name = strings.ToValidUTF8(name, "\uFFFD")
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = make(map[string]bool)
	}
	switch {
	case n.known[name]:
	case len(n.known) >= MaxNames:
		return Other
	default:
		n.known[name] = true
	}
	return name
}
