package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// report L7
func TestNamesOfAnyBytesComeBackFromAValue(t *testing.T) {
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	names := []string{"a/1f", "\xff/1f", "ä\xe4/1f", "�/1f", "\xff\xfe"}
	h := Holder{Owner: "w", Host: "h", PID: 1, Since: since, Holds: names, All: names}
	got, ok := DecodeHolder([]byte(h.Encode()))
	require.True(t, ok)
	require.Equal(t, names, got.Holds)
	require.Equal(t, names, got.All)
	require.Equal(t, "\xff/1f", names[1], "what the caller has is not changed")

	// What versions before this have written, and read, stays byte for byte.
	h.Holds, h.All = []string{"a/1f", "ä/1f", "�/1f"}, nil
	require.JSONEq(t, `{"owner":"w","host":"h","pid":1,"since":"2026-11-01T00:00:00Z","holds":["a/1f","ä/1f","�/1f"]}`, h.Encode())
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"a", "\xff", "\x00ff", "\x00", "\x0061", "�", "\x00ff\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := Text(s)
		require.True(t, utf8.ValidString(text))
		b, err := json.Marshal(text)
		require.NoError(t, err)
		var back string
		require.NoError(t, json.Unmarshal(b, &back))
		if !strings.HasPrefix(s, inHex) || !utf8.ValidString(s) { // no name begins so
			require.Equal(t, s, FromText(back))
		}
		if utf8.ValidString(s) {
			require.Equal(t, s, text)
		}
	})
}

// report L12
func TestALongNameIsQuotedByItsBeginningAndItsEnd(t *testing.T) {
	require.Equal(t, `"orders/42"`, Quote("orders/42"))
	require.Equal(t, `"a\xff\n"`, Quote("a\xff\n"))
	long := Quote(strings.Repeat("ä", 500000) + "/694d8f2a6c1b0a3f")
	require.Less(t, len(long), 250)
	require.True(t, strings.HasPrefix(long, `"ää`) && strings.HasSuffix(long, `ä/694d8f2a6c1b0a3f" (1000017 bytes)`), long)
	require.NotContains(t, long, `\x`)

	require.Equal(t, `["a" "b"]`, QuoteAll([]string{"a", "b"}))
	many := make([]string, 64)
	for i := range many {
		many[i] = strings.Repeat("x", 1000)
	}
	require.Less(t, len(QuoteAll(many)), 1500)
	require.True(t, strings.HasSuffix(QuoteAll(many), " and 58 more]"))
}
