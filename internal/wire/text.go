package wire

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Names and keys may contain any bytes, but strings in JSON are UTF-8, and encoding/json replaces
// other bytes by U+FFFD. So a name or a key that is not UTF-8 is written in JSON as a zero byte and
// its bytes in hexadecimal. No name and no key of a queue contains a zero byte, so the two forms are
// never confused. UTF-8 names are written unchanged, which older versions can read.

const inHex = "\x00"

// Text returns the form in JSON of a name or a key.
func Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return inHex + hex.EncodeToString([]byte(s))
}

// FromText is the inverse of Text.
func FromText(text string) string {
	if digits, ok := strings.CutPrefix(text, inHex); ok {
		if b, err := hex.DecodeString(digits); err == nil && !utf8.Valid(b) {
			return string(b)
		}
	}
	return text
}

// texts converts all by f. It returns the same slice if nothing changes.
func texts(all []string, f func(string) string) []string {
	for i, s := range all {
		if f(s) == s {
			continue
		}
		converted := make([]string, len(all))
		copy(converted, all[:i])
		for j := i; j < len(all); j++ {
			converted[j] = f(all[j])
		}
		return converted
	}
	return all
}
