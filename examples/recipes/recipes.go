// Package recipes has the fence for stores without SQL. Each function is meant to be copied.
//
// The store compares the token and writes in one step, or a step that fails if another write came
// between. docs/fencing.md has the pitfalls that they share.
package recipes

import (
	"fmt"

	"github.com/etcdlock/etcdlock/fence"
)

// sortable has the order of tokens as a string, for stores without 64-bit integers.
func sortable(t fence.Token) string { return fmt.Sprintf("%019d.%019d", t.Epoch, t.Value) }

// fromSortable is the inverse of sortable; zero for anything else.
func fromSortable(s string) (t fence.Token) {
	_, _ = fmt.Sscanf(s, "%d.%d", &t.Epoch, &t.Value)
	return t
}
