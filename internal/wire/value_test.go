package wire

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is written without reflection is what encoding/json would write, to the byte.
func TestAHolderIsWrittenAsJSON(t *testing.T) {
	since := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	whos := []Holder{
		{},
		{Owner: "indexer"},
		{Owner: "in dexer", Host: "host-1", PID: 7, Since: since},
		{PID: -1, Since: since.Truncate(time.Second)},
		{Host: "a\"b"}, {Host: `a\b`}, {Host: "<&>"}, {Owner: "é\u2028"}, {Owner: "\x00\x1f\x7f"}, {Owner: "\xff"},
		{Since: since.In(time.FixedZone("", 3600))}, {Since: since.Local()},
		{Since: time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Owner: "o", Mode: Shared}, {Owner: "o", Mode: Upgrading, Bound: 3}, {Owner: "o", Permits: 1}, {Owner: "o", Limit: 2},
		{Owner: "o", Ordered: true}, {Owner: "o", Holds: []string{"k/1"}}, {Owner: "o", All: []string{"a", "b"}},
	}
	for _, h := range whos {
		want, err := json.Marshal(h)
		if err != nil {
			want = []byte("{}")
		}
		require.Equal(t, string(want), h.Encode())
	}
	_, plain := Holder{Owner: "indexer", Host: "host-1", PID: 7, Since: since}.plain()
	require.True(t, plain, "the usual one takes the short way")
}
