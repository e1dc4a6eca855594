//go:build linux

package slowdisk_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/test/internal/slowdisk"
)

// mounted skips where a program may not mount, as most containers have it.
func mounted(t *testing.T) (d *slowdisk.Disk, behind, at string) {
	t.Helper()
	behind, at = t.TempDir(), t.TempDir()
	d, err := slowdisk.Mount(behind, at)
	if err != nil {
		t.Skipf("this needs the right to mount: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, d.Unmount()) })
	return d, behind, at
}

func TestOnlyTheSyncIsSlowAndTheDataGetsThrough(t *testing.T) {
	d, behind, at := mounted(t)
	f, err := os.Create(filepath.Join(at, "file"))
	require.NoError(t, err)
	defer f.Close()
	d.Delay(200 * time.Millisecond)

	began := time.Now()
	_, err = f.WriteString("text")
	require.NoError(t, err)
	require.Less(t, time.Since(began), 100*time.Millisecond, "a write is not delayed")

	began = time.Now()
	require.NoError(t, f.Sync())
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
	require.EqualValues(t, 1, d.Delayed())
	text, err := os.ReadFile(filepath.Join(behind, "file"))
	require.NoError(t, err)
	require.Equal(t, "text", string(text))

	d.Delay(0)
	require.NoError(t, f.Sync())
	require.EqualValues(t, 1, d.Delayed())
}
