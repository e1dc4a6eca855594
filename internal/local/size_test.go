//go:build !lockorder

package local

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A held lock that lasts takes 1 KiB at most, which bench/held measures. Each bound is the size of the
// allocator's class that the struct is in. A struct that outgrows it takes 16 bytes more, or 32.
func TestWhatAHeldLockHasIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Ownership{}), uintptr(208))
	require.LessOrEqual(t, unsafe.Sizeof(Queue{}), uintptr(112))
	require.LessOrEqual(t, unsafe.Sizeof(Hold{})+unsafe.Sizeof(uintptr(0)), uintptr(112), "with the pointer of lockmgr.Hold")
}
