package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// These are promised for all versions and languages: they must never change.
func TestTheMutexOfAKeyIsTheSameForEver(t *testing.T) {
	for _, v := range []struct {
		key  string
		n    int
		want string
	}{
		{"orders/42", 16, "s/15"},
		{"", 16, "s/5"},
		{"a", 16, "s/12"},
		{"orders/42", 10, "s/9"},
		{"orders/43", 16, "s/12"},
		{"ключ", 1000, "s/81"},
		{"\x00ÿ", 7, "s/2"},
		{strings.Repeat("a", 100), 64, "s/57"},
		{"orders/42", 1, "s/0"},
	} {
		require.Equal(t, v.want, NewStriped(nil, "s", v.n).For(v.key).Name())
	}
}

func TestKeysAreSpreadEvenly(t *testing.T) {
	for _, n := range []int{1, 2, 7, 16, 100} {
		s := NewStriped(nil, "s", n)
		require.Equal(t, n, s.Len())
		counts := make(map[string]int)
		const keys = 20_000
		for i := range keys {
			counts[s.For(fmt.Sprintf("orders/%d", i)).Name()]++
		}
		require.Len(t, counts, n)
		for name, c := range counts {
			require.InDelta(t, keys/n, c, 0.2*keys/float64(n), name)
		}
	}
}

// A wrong count would not be found if there were one mutex instead.
func TestAStripedLockOfNoMutexIsRefused(t *testing.T) {
	simulate(t, func(w *world) {
		s := w.session("a", WithForeignNames()) // which forbids the fewest names
		require.Empty(w, requests(w.Client("a"), func() {
			for _, n := range []int{0, -3} {
				striped := NewStriped(s, "orders", n)
				require.Equal(w, n, striped.Len())
				m := striped.For("any")
				_, err := m.Lock(w.ctx)
				require.ErrorIs(w, err, ErrInvalidArgument)
				require.ErrorContains(w, err, fmt.Sprintf(`"orders" is spread over %d mutexes`, n))
				_, err = m.TryLock(w.ctx)
				require.ErrorIs(w, err, ErrInvalidArgument)
				require.ErrorIs(w, m.Do(w.ctx, func(context.Context, *Lock) error { return nil }), ErrInvalidArgument)
				_, err = m.Queue(w.ctx)
				require.ErrorIs(w, err, ErrInvalidArgument)
				_, err = NewMultiMutex(s, []string{m.Name()}).Lock(w.ctx)
				require.ErrorIs(w, err, ErrInvalidArgument)
			}
		}))
	})
}

func TestStripedMutexesExclude(t *testing.T) {
	simulate(t, func(w *world) {
		a := NewStriped(w.session("a"), "s", 16, WithOwner("x"))
		b := NewStriped(w.session("b"), "s", 16)
		l := w.lock(a.For("orders/42"))
		_, err := b.For("orders/42").TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		entries, err := b.For("orders/42").Queue(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "x", entries[0].Owner)
		other, err := b.For("orders/43").TryLock(w.ctx)
		require.NoError(w, err)
		_, err = NewMutex(a.session, "s").TryLock(w.ctx)
		require.ErrorIs(w, err, ErrNestedName)
		// With another n the same key has another mutex, and nothing tells.
		third, err := NewStriped(b.session, "s", 10).For("orders/42").TryLock(w.ctx)
		require.NoError(w, err)
		for _, l := range []*Lock{l, other, third} {
			require.NoError(w, l.Unlock(w.ctx))
		}
		w.allGone()
	})
}
