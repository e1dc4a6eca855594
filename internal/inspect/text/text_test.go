package text

import (
	"testing"

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
