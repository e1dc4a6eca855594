package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStaysComeBackFromTheirFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stays")
	require.NoError(t, writeStays(file, fairPlay()))
	got, err := readStays([]stay{{Start: 1}}, file)
	require.NoError(t, err)
	require.Equal(t, append([]stay{{Start: 1}}, fairPlay()...), got)
	require.NoFileExists(t, file)
}

// An order that fails is answered, and the worker goes on.
func TestWorkerAnswersEveryOrder(t *testing.T) {
	var out strings.Builder
	in := `{"do":"dance"}` + "\n" + `{"do":"open","contestant":"nobody"}` + "\n" + `{"do":"close"}` + "\n"
	require.NoError(t, runWorker(strings.NewReader(in), &out))
	require.Equal(t, []string{`{"error":"no such order: \"dance\""}`, `{"error":"no such contestant: \"nobody\""}`, `{}`},
		strings.Split(strings.TrimSpace(out.String()), "\n"))
}

func TestSharedClockIsTheMachinesMonotonicClock(t *testing.T) {
	require.Less(t, clock.blur, time.Millisecond)
	before := monotonic()
	now := clock.now()
	after := monotonic()
	blur := int64(clock.blur)
	require.GreaterOrEqual(t, now, before-blur)
	require.LessOrEqual(t, now, after+blur)
}
