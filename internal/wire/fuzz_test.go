package wire

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Whatever names there are: a key leads back to its name and its lease, and a key of one
// name lies in the range of another one only if that is told by Nested.
func FuzzNames(f *testing.F) {
	for _, s := range [][2]string{
		{"a", "a/b"}, {"a/b", "a"}, {"a/b", "a/bc"}, {"a", "a0"}, {"a", "a."}, {"orders/42", "orders"}, {"/x", "x"}, {"/x", "/x/"},
		{"a/b/c", "a/b/c/d/e"}, {"ä", "\xff"}, {"a//b", "a"}, {"a\x00", "a"}, {"a-", "a/-1"}, {"a", "a/1f"}, {"", "/"},
	} {
		f.Add(s[0], s[1], int64(0x694d8f2a6c1b0a3f))
	}
	f.Add("a", "b", int64(-1))
	f.Fuzz(func(t *testing.T, a, b string, lease int64) {
		if err := CheckName(a); err != nil {
			require.ErrorIs(t, err, lockerr.ErrInvalidName)
			return
		}
		from, end := Range(a)
		key := Key(a, clientv3.LeaseID(lease))
		require.True(t, from <= key && key < end, "%q is not in [%q, %q)", key, from, end)
		_, nested := Nested(a, key)
		require.False(t, nested, "%q in %q", key, a)
		rest, ok := strings.CutPrefix(key, Prefix(a))
		require.True(t, ok)
		back, err := strconv.ParseInt(rest, 16, 64)
		require.NoError(t, err)
		require.Equal(t, lease, back)

		if CheckName(b) != nil {
			return
		}
		other := Key(b, clientv3.LeaseID(lease))
		inner, nested := Nested(a, other)
		require.Equal(t, slices.Contains(slices.Collect(Ancestors(b)), a), nested, "%q around %q", a, b)
		require.Equal(t, nested || a == b, from <= other && other < end, "%q in the range of %q", other, a)
		if nested {
			require.Equal(t, b, inner)
		}
	})
}

// What is printed is read back, and nothing else is.
// report R2
func FuzzParseKey(f *testing.F) {
	for _, name := range []string{"a", "a/b", "/a/", "a.next"} {
		for _, slot := range slots {
			f.Add(SlotKey(name, 0x1f, slot), name, int64(0x694d8f2a6c1b0a3f), slot.N, slot.Priority, slot.Takeover)
		}
		f.Add(SuccessorKey(name, 0x1f), name, int64(-1), 0, 0, false) // which is none of a queue
	}
	f.Fuzz(func(t *testing.T, key, name string, lease int64, n, priority int, takeover bool) {
		if p, ok := ParseKey(key); ok {
			require.Equal(t, key, SlotKey(p.Name, p.Lease, p.Slot))
		}
		if CheckForeignName(name) != nil || n < 0 {
			return
		}
		slot := Slot{N: n, Priority: priority, Takeover: takeover}
		p, ok := ParseKey(SlotKey(name, clientv3.LeaseID(lease), slot))
		require.True(t, ok)
		require.Equal(t, Parsed{Name: name, Lease: clientv3.LeaseID(lease), Slot: slot}, p)
		_, ok = ParseKey(SuccessorKey(name, clientv3.LeaseID(lease)))
		require.False(t, ok)
	})
}

// A value that is not ours is told apart or taken as far as it goes, and what was taken
// can be written again.
func FuzzDecodeHolder(f *testing.F) {
	for _, s := range []string{
		"", "{", "{}", "null", "[]", `{"owner":"w","host":"h","pid":42,"since":"2026-11-21T12:00:00Z"}`, `{"pid":1e99}`, `{"pid":"x"}`,
		`{"since":"9999-12-31T23:59:59.999999999+23:59"}`, `{"since":""}`, `{"OWNER":"x"}`, `{"owner":"\ud800"}`, "\xff\xfe", "host:80",
		strings.Repeat(`{"owner":`, 5000), `{"owner":"` + strings.Repeat("x", 5000) + `"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		h, ok := DecodeHolder(value)
		if !ok {
			require.Zero(t, h)
			return
		}
		again, ok := DecodeHolder([]byte(h.Encode()))
		require.True(t, ok, h.Encode())
		require.True(t, h.Since.Equal(again.Since), "%v, %v", h.Since, again.Since)
		h.Since = again.Since // the same instant, in another zone perhaps
		require.Equal(t, h, again)
	})
}
