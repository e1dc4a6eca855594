package wire

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// Names and keys may be of any bytes, and strings in JSON are of UTF-8: encoding/json turns other
// bytes into U+FFFD. So a name or a key that is no UTF-8 is written in JSON as a zero byte and its
// bytes in hexadecimal. No name and no key of a queue has a zero byte in it, so nothing else is
// taken for that. All others stand as they are, also for versions that do not know of this.

const inHex = "\x00"

// Text is a name or a key as it stands in JSON.
func Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return inHex + hex.EncodeToString([]byte(s))
}

// FromText is the name or key that stands in JSON as text.
func FromText(text string) string {
	if digits, ok := strings.CutPrefix(text, inHex); ok {
		if b, err := hex.DecodeString(digits); err == nil && !utf8.Valid(b) {
			return string(b)
		}
	}
	return text
}

// texts is all as f converts them; the same slice if nothing changes.
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
