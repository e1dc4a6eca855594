package etcdproc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is kept and does not run is replaced: otherwise it would be built at every call, and no
// call would ever have it.
func TestADamagedBuildIsReplaced(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir, err := Dir("v0.0.1")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etcdctl"), nil, 0o600))
	builds := 0
	build := func(to string) error {
		builds++
		return os.WriteFile(filepath.Join(to, "etcd"), []byte("#!/bin/sh\necho etcd Version: 0.0.1\n"), 0o700)
	}
	for range 2 {
		p, err := kept(t.Context(), "v0.0.1", t.Logf, build)
		require.NoError(t, err)
		require.Equal(t, "v0.0.1", p.Version)
	}
	require.Equal(t, 1, builds)
}
