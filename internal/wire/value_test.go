package wire

import (
	"encoding/json"
	"strconv"
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
		{Owner: "o", PID: 7, Since: since, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{Owner: "o", Mode: Shared, Since: since, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{Owner: "o", Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {Owner: "o", Since: since, Trace: `"`},
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
	_, plain = Holder{Owner: "indexer", PID: 7, Since: since, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}.plain()
	require.True(t, plain, "also with a trace")
}

// A trace is shown to people and handed to their tools, so another text in its place is not.
func TestOnlyATraceparentIsReadAsATrace(t *testing.T) {
	for trace, want := range map[string]bool{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": true,
		"": false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0":       false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x":     false,
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":      false,
		"00x0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      false,
		"00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01":      false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u009b-01": false,
	} {
		require.Equal(t, want, Traceparent(trace), trace)
		h, ok := DecodeHolder([]byte(`{"trace":` + strconv.Quote(trace) + `}`))
		require.True(t, ok || !want)
		require.Equal(t, want, h.Trace != "", trace)
	}
}
