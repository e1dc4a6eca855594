package wire

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors, log lines and what people read quote names and keys, which may be of any length that
// etcd takes. Quote and QuoteAll are how all of them do.

const (
	quotedHead  = 160 // bytes of a long name that are shown of its beginning
	quotedTail  = 40  // and of its end, where a key names its lease
	quotedNames = 6   // names of many that are shown
)

// Quote quotes a name or a key. Of a long one it shows the beginning and the end.
func Quote(name string) string {
	if len(name) <= quotedHead+quotedTail {
		return strconv.Quote(name)
	}
	head, tail := quotedHead, len(name)-quotedTail
	for head > quotedHead-utf8.UTFMax && !utf8.RuneStart(name[head]) {
		head--
	}
	for tail < len(name)-quotedTail+utf8.UTFMax && !utf8.RuneStart(name[tail]) {
		tail++
	}
	return fmt.Sprintf("%s (%d bytes)", strconv.Quote(name[:head]+"…"+name[tail:]), len(name))
}

// QuoteAll quotes several names, and tells how many more there are.
func QuoteAll(names []string) string {
	quoted := make([]string, 0, quotedNames+1)
	for i, name := range names {
		if i == quotedNames {
			quoted = append(quoted, fmt.Sprintf("and %d more", len(names)-i))
			break
		}
		quoted = append(quoted, Quote(name))
	}
	return "[" + strings.Join(quoted, " ") + "]"
}
