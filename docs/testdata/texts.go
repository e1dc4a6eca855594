// Package texts is read by a test: it is not clear who says what.
package texts

import "errors"

// Texts, some of them hard to read.
var (
	errHeld = errors.New("locked by somebody")
	format  = "place %d in line"
	key     = "who"
	plain   = "locked by another holder"
	help    = `Shows the queue:
who holds, and so on.`
)
