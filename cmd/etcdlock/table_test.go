package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// report P15
func TestATableIsNoWiderThanTheTerminal(t *testing.T) {
	long := strings.Repeat("orders/", 20) + "42"
	for _, width := range []int{60, 80, 120, 400, 0} {
		for _, lastLong := range []bool{true, false} {
			o := &output{width: width}
			table := o.newTable("NAME", "HOLDER", "HOST", "TEXT")
			add := table.add
			if lastLong {
				add = table.addLong
			}
			add(name(long), "a worker with a name", "host-1.example.com", strings.Repeat("many words ", 20)+long)
			add(name("a"), "", "", "b")
			var b strings.Builder
			require.NoError(t, table.print(&b))
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			for _, line := range lines {
				if width > 0 {
					require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, " ")), width, "%q", line)
				}
			}
			switch {
			case width == 0 || width == 400 && lastLong:
				require.Contains(t, b.String(), long, "names are cut for want of room only")
			case !lastLong:
				require.Len(t, lines, 3)
			}
			if lastLong { // the whole text is there, over several lines
				text := strings.Join(strings.Fields(b.String()), "")
				require.Equal(t, 20, strings.Count(text, "manywords"))
				require.Contains(t, text, "42")
			}
		}
	}
	require.Equal(t, "orders/1234567…9b805", cut("orders/1234567890/37e4a1ff0049b805", 20), "the end of a key tells its lease")
}

// report P15
func TestNamesInOutputAreQuotedWhereTheyAreNotPlain(t *testing.T) {
	for plain, shown := range map[string]string{"jobs/nightly": "jobs/nightly", "ä": "ä", "a b": `"a b"`, "": `""`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, `"a"`: `"\"a\""`} {
		require.Equal(t, shown, text.Named(plain))
	}
	// A name that tables quote is accepted in the quoted form, and any other name as it is.
	for arg, means := range map[string]string{"a": "a", `"a"`: `"a"`, `"a b"`: `"a b"`, `"\xff"`: "\xff", `"a\n"`: "a\n", `"`: `"`, "`a\x01`": "`a\x01`", "\xff": "\xff"} {
		require.Equal(t, means, text.FromArg(arg), arg)
	}
}

func TestADurationIsSecondsOrSaysWhatItCanBe(t *testing.T) {
	var s span
	for text, want := range map[string]string{"10": "10s", "1m30s": "1m30s", "0": "0", "500ms": "500ms"} {
		require.NoError(t, s.Set(text))
		require.Equal(t, want, s.String())
	}
	for _, text := range []string{"", "10x", "ten", "1e3", "99999999999999"} {
		require.ErrorContains(t, s.Set(text), "seconds, such as 10", text)
	}
}
