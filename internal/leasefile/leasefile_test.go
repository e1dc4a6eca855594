//go:build unix

package leasefile

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func lock(t *testing.T, path string) *File {
	f, err := Lock(t.Context(), path, func() { t.Error("waits for a file that is free") })
	require.NoError(t, err)
	return f
}

func TestAFileHasOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	require.Nil(t, TryLock(path), "there is no file")
	first := lock(t, path)
	require.Nil(t, TryLock(path))

	ctx, cancel := context.WithCancel(t.Context())
	_, err := Lock(ctx, path, cancel)
	require.ErrorIs(t, err, ErrInUse)

	second := make(chan *File, 1)
	waits := make(chan struct{})
	go func() {
		f, _ := Lock(context.Background(), path, func() { close(waits) })
		second <- f
	}()
	<-waits
	require.NoError(t, first.Write(0x2a))
	first.Close()
	f := <-second
	require.NotNil(t, f)
	require.EqualValues(t, 0x2a, f.Read())
	f.Close()

	f = TryLock(path)
	require.NotNil(t, f)
	f.Close()
}

func TestWhatIsNoLeaseIsReadAsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	for content, id := range map[string]int64{
		"":                    0,
		"no lease":            0,
		"000000000000002a\n":  0x2a,
		"2a":                  0x2a,
		"ffffffffffffffff\n":  0, // no lease is negative
		"7fffffffffffffff\n9": 1<<63 - 1,
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		f := lock(t, path)
		require.Equal(t, id, f.Read(), "%q", content)
		f.Close()
	}
	f := lock(t, path)
	defer f.Close()
	for _, id := range []int64{1 << 40, 0} {
		require.NoError(t, f.Write(id))
		require.Equal(t, id, f.Read())
	}
}

func TestAFileThatCannotBeMadeIsAnError(t *testing.T) {
	_, err := Lock(t.Context(), filepath.Join(t.TempDir(), "no", "folder"), func() {})
	require.ErrorIs(t, err, os.ErrNotExist)
	(*File)(nil).Close()
}
