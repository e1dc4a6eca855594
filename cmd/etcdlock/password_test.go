//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A command that connects twice asks once.
func TestThePasswordIsAskedForOnce(t *testing.T) {
	t.Parallel()
	d := sitDown(t)
	d.line("etcdlock doctor --user root " + nameOf(t))
	d.shows("Password: ")
	d.line("secret") // any password: this etcd has no users
	d.shows(`\d+ wrong, \d+ doubtful`)
	d.prompt()
	require.Equal(t, 1, strings.Count(d.Shown(), "Password: "))
}
