//go:build linux

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/beside"
)

// The table of docs/command.md has what is seen of others too; here etcdlock's column is seen again.
func TestTheTableOfWrappersIsTrueOfThisOne(t *testing.T) {
	doc, err := os.ReadFile("../../docs/command.md")
	require.NoError(t, err)
	w := &beside.Wrapper{
		Name: "etcdlock lock", Locks: true,
		Env: []string{asCommand + "=1", noSleep, "ETCDCTL_ENDPOINTS=" + dev.endpoint},
		// The TTL is longer than a busy machine pauses.
		Args: func(name string) []string {
			return []string{os.Args[0], "lock", "--ttl", "10s", strings.TrimPrefix(name, "/"), "--"}
		},
	}
	for i := range beside.Behaviours {
		b := &beside.Behaviours[i]
		t.Run(b.What, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, string(doc), "\n| "+b.What+" | "+b.Want+" |")
			cell, err := beside.Observe(t.Context(), w, b, t.TempDir())
			require.NoError(t, err)
			require.Equal(t, b.Want, cell)
		})
	}
}
