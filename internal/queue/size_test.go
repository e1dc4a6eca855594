package queue

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// See the test of this name in package local.
func TestWhatAHeldLockHasIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Guard{}), uintptr(128))
	require.LessOrEqual(t, unsafe.Sizeof(Entry{}), uintptr(128))
}
