package wire

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors, log lines and listings quote names and keys by Quote and QuoteAll, because a name can be
// as long as etcd permits.

const (
	quotedHead  = 160 // bytes that are shown of the beginning of a long name
	quotedTail  = 40  // and of its end, where a key names its lease
	quotedNames = 6   // names that are shown of a long list
)

// Quote quotes a name or a key. It shows the beginning and the end of a long one.
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

// QuoteAll quotes the first of several names, and appends the number of the others.
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
