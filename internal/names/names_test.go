package names

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestANameInsideOrAroundAUsedOneIsRefused(t *testing.T) {
	n := New()
	n.Use([]string{"a/b", "c"}, 1)
	for name, other := range map[string]string{"a/b/c": "a/b", "a": "a/b", "c/d/e": "c", "a/b": "", "a/c": "", "ab": ""} {
		found, err := n.CheckNesting(name)
		require.Equal(t, other, found, name)
		if other == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, lockerr.ErrNestedName)
		require.ErrorContains(t, err, wire.Quote(other))
	}
}

func TestANameIsInUseUntilItsLastUseEnds(t *testing.T) {
	n := New()
	n.Use([]string{"a/b", "a/c"}, 1)
	n.Use([]string{"a/b"}, 1)
	n.Use([]string{"a/b", "a/c"}, -1)
	any, ok := n.Any()
	require.True(t, ok)
	require.Equal(t, "a/b", any)
	other, err := n.CheckNesting("a")
	require.Error(t, err)
	require.Equal(t, "a/b", other)
	n.Use([]string{"a/b"}, -1)
	_, ok = n.Any()
	require.False(t, ok)
	used, outer := n.Len()
	require.Zero(t, used+outer)
}

func TestASlotHasOneOwner(t *testing.T) {
	n, second := New(), wire.Slot{N: 1}
	held, swept := n.Hold("m", wire.Slot{})
	require.True(t, held)
	require.Nil(t, swept)
	held, swept = n.Hold("m", wire.Slot{})
	require.False(t, held)
	require.Nil(t, swept, "of another caller")
	require.False(t, n.Borrow("m", wire.Slot{}))
	require.Equal(t, second, n.Take("m", wire.Slot{}))
	require.Equal(t, wire.Slot{N: 1, Priority: 5}, n.Take("m", wire.Slot{Priority: 5}))
	n.Drop("m", second)
	require.False(t, n.HoldAll([]string{"n", "m"}, []wire.Slot{{}, {}}))
	require.False(t, n.Busy("n", wire.Slot{}), "none of them")
	require.True(t, n.HoldAll([]string{"n", "m"}, []wire.Slot{{}, second}))
}

func TestACallerHearsWhenTheSweeperGivesASlotBack(t *testing.T) {
	n := New()
	require.True(t, n.Borrow("m", wire.Slot{}))
	_, swept := n.Hold("m", wire.Slot{})
	n.Drop("m", wire.Slot{}) // of a caller that had it before
	require.True(t, n.Busy("m", wire.Slot{}))
	n.GiveBack("m", wire.Slot{})
	<-swept
	held, _ := n.Hold("m", wire.Slot{})
	require.True(t, held)
}
