package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sample() []*outcome {
	return []*outcome{
		{Nemesis: "cut", Rounds: 1, Groups: []*figures{
			{Library: "etcdlock", Kind: "mutex", Overlap: -2 * time.Millisecond, Exclusive: true, History: sound, Next: []float64{3, 2}},
			{Library: "etcd", Kind: "mutex", Overlap: 1500 * time.Millisecond, Exclusive: true, History: broken},
		}},
		{Nemesis: "slow-fsync", Skipped: "needs the right to mount"},
	}
}

func TestTheTableShowsWhatFailedAndWhatWasSkipped(t *testing.T) {
	var b strings.Builder
	writeTable(&b, sample())
	require.Contains(t, b.String(), "| -2.0 / **+1500.0** | 2.50 (3.00) / - |")
	require.Contains(t, b.String(), "ok / **broken**")
	require.Contains(t, b.String(), "| slow-fsync | **skipped: needs the right to mount** |")
	writeSummary(&b, sample())
	require.Contains(t, b.String(), "| cut | -2.0 | **+1500.0** | 2.50 (3.00) | - | 0 / 0 |")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for _, line := range lines {
		require.Equal(t, strings.Count(lines[0], "|"), strings.Count(line, "|"), line)
	}
	file := filepath.Join(t.TempDir(), "p.png")
	require.NoError(t, drawOverlaps(file, sample()))
	_, err := os.Stat(file)
	require.NoError(t, err)
}

func TestOnlyWhatEtcdlockPromisesFailsARun(t *testing.T) {
	outcomes := sample()
	require.Empty(t, failures(outcomes), "the control fails, which is no failure")
	ours := outcomes[0].Groups[0]
	for name, breach := range map[string]figures{
		"overlap":   {Overlap: 1, Exclusive: true, History: sound},
		"token":     {Violations: []string{"token 1 after token 2"}, History: sound},
		"history":   {History: broken},
		"unknown":   {History: unknown},
		"left":      {History: sound, Left: leftover{Idle: 1}},
		"leaseLeft": {History: sound, Left: leftover{Leases: 1}},
		"stuck":     {History: sound, Stuck: 1},
	} {
		breach.Library, breach.Kind = "etcdlock", "mutex"
		*ours = breach
		require.Len(t, failures(outcomes), 1, name)
	}
}
