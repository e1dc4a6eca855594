//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// report P14
func TestACommandThatReachesMaxRunIsEndedBeforeTheLockIsReleased(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		flags        []string
		told         bool // the command has said so
	}{
		{"it ends when it is told to", `trap 'echo told; exit 0' TERM; echo "child $$"; while :; do sleep 0.05; done`, nil, true},
		{"it does not", `trap 'echo told' TERM; (trap "" TERM; while :; do sleep 0.05; done) & echo "child $$"; while :; do sleep 0.05; done`,
			[]string{"--stop-timeout", "500ms"}, true},
		{"it stops longer than a quarter of the TTL", `trap 'sleep 3; echo told; exit 0' TERM; echo "child $$"; while :; do sleep 0.05; done`,
			[]string{"--ttl", ttl.String()}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := nameOf(t)
			began := time.Now()
			args := append([]string{"lock", "--max-run", "700ms"}, c.flags...)
			p := start(t, append(args, name, "--", "sh", "-c", c.script)...)
			pid := p.pid("child ")
			granted := waitBehind(t, name, pid)
			require.Empty(t, receive(t, granted, "the grant to the next one"), "the command has ended before")
			require.GreaterOrEqual(t, time.Since(began), 700*time.Millisecond)
			require.Equal(t, exitOverran, p.wait(), "%s", &p.stderr)
			require.Equal(t, c.told, strings.Contains(p.output(), "told"))
			require.Contains(t, p.stderr.String(), "--max-run")
			require.Contains(t, p.stderr.String(), name)
			p.noProcessLeft()
		})
	}
}

func TestACommandThatEndsBeforeMaxRunIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := runToEnd(t, "lock", "--max-run", "1h", nameOf(t), "--", "sh", "-c", "exit 7")
	require.Equal(t, 7, p.code)
	require.Empty(t, p.stderr.String())
	p = runToEnd(t, "lock", "--max-run", "-1s", nameOf(t), "--", "true")
	require.Equal(t, exitUsage, p.code)
}
