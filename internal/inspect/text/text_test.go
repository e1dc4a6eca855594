package text

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// A name with a mark that reverses the direction could show another name, or move the next column.
func TestTextThatIsNotPrintableIsQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"jobs/nightly":       "jobs/nightly",
		"aufträge/日次":        "aufträge/日次",
		"\x1b[31mred":        `"\x1b[31mred"`,
		"a\u202egnp.exe":     `"a\u202egnp.exe"`,
		"zero\u200bwidth":    `"zero\u200bwidth"`,
		"\xff\xfe":           `"\xff\xfe"`,
		"line\u2028feed":     `"line\u2028feed"`,
		"a\ufffdreplacement": "a\ufffdreplacement",
	} {
		require.Equal(t, want, Safe(in))
		require.Equal(t, in, FromArg(want), "the quoted form means the same name")
	}
}

// A text of another client acts on a terminal neither in a table nor in JSON.
func TestEscapedJSONIsPrintableAndMeansTheSame(t *testing.T) {
	for _, s := range []string{"plain", "é 漢 \U0001F600", "\u009b2J", "\u202egnp.exe", "\U000e0001\U000e0041", "a\u0000\n\t\"\\", "\u2028"} {
		plain, err := json.Marshal(map[string]string{"v": s})
		require.NoError(t, err)
		escaped := EscapeJSON(string(plain) + "\n")
		require.False(t, strings.ContainsFunc(strings.TrimSuffix(escaped, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }), "%q", escaped)
		var got map[string]string
		require.NoError(t, json.Unmarshal([]byte(escaped), &got))
		require.Equal(t, s, got["v"])
	}
}
