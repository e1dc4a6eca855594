package wire

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// trap A14
func TestNamesThatWouldShareKeysAreRefused(t *testing.T) {
	for _, good := range []string{"a", "orders/42", "/a", "/a/b", "ä ö", "a.b-c_d:e", "a0", "0"} {
		require.NoError(t, CheckName(good), good)
	}
	for _, bad := range []string{"", "/", "a/", "/a/", "a//b", "//a", "a\x00b", "a/b//"} {
		require.ErrorIs(t, CheckName(bad), lockerr.ErrInvalidName, bad)
	}
}

// trap A14: names of others may break the rule, but never without being asked for.
func TestForeignNamesNeedOnlyBeNames(t *testing.T) {
	for _, name := range []string{"/", "a/", "/a/", "a//b", "//a", "a/b//", "a", "/a/b"} {
		require.NoError(t, CheckForeignName(name), name)
	}
	for _, bad := range []string{"", "a\x00b"} {
		require.ErrorIs(t, CheckForeignName(bad), lockerr.ErrInvalidName, bad)
	}
	require.ErrorContains(t, CheckName("/a/"), `"/a"`, "the name that was meant, as a rule")
	require.ErrorContains(t, CheckName("/a/"), "WithForeignNames")
}

// trap A14: a key lies in the range of a name that is not its own exactly where one name
// is inside the other, and both Nested and Ancestors tell so. Over all names of up to
// five letters of "a" and slashes.
func TestNoKeyBelongsToTwoNames(t *testing.T) {
	var names []string
	for n := 1; n <= 5; n++ {
		for bits := range 1 << n {
			name := make([]byte, n)
			for i := range name {
				name[i] = "a/"[bits>>i&1]
			}
			names = append(names, string(name))
		}
	}
	for _, inner := range names {
		key := Key(inner, 0xa)
		for _, outer := range names {
			from, end := Range(outer)
			inRange := key >= from && key < end
			name, nested := Nested(outer, key)
			require.Equal(t, inRange && inner != outer, nested, "%q in %q", inner, outer)
			require.Equal(t, nested, slices.Contains(slices.Collect(Ancestors(inner)), outer), "%q in %q", inner, outer)
			if nested {
				require.Equal(t, inner, name)
			}
		}
	}
}

// The format that etcd's own package, its command and its services use.
func TestKeysLookAsThoseOfEtcdsOwnPackage(t *testing.T) {
	require.Equal(t, "orders/42/694d8f2a6c1b0a3f", Key("orders/42", 0x694d8f2a6c1b0a3f))
	require.Equal(t, "a/1f", Key("a", 0x1F))
	from, end := Range("a/b")
	require.Equal(t, "a/b/", from)
	require.Equal(t, "a/b0", end)
	require.Less(t, Key("a/b", 1), end)
	require.GreaterOrEqual(t, Key("a/b", 1), from)
	require.False(t, "a/c/1" >= from && "a/c/1" < end)
	require.False(t, "a/b" >= from, "the name itself is not in its range")
}

func TestAKeyOfAnInnerNameIsRecognised(t *testing.T) {
	for key, want := range map[string]string{
		"a/1f":     "",
		"a/":       "",
		"a/stray":  "",
		"a/b/1f":   "a/b",
		"a/b/c/1f": "a/b/c",
		"a//1f":    "a/",
		"b/1f":     "",
	} {
		inner, nested := Nested("a", key)
		require.Equal(t, want != "", nested, key)
		require.Equal(t, want, inner, key)
	}
	require.Equal(t, []string{"a/b", "a"}, slices.Collect(Ancestors("a/b/c")))
	require.Empty(t, slices.Collect(Ancestors("a")))
	require.Equal(t, []string{"/a"}, slices.Collect(Ancestors("/a/b")))
}

func TestAHolderSurvivesItsWayThroughEtcd(t *testing.T) {
	h := Holder{Owner: "worker", Host: "web-1", PID: 42, Since: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	got, ok := DecodeHolder([]byte(h.Encode()))
	require.True(t, ok)
	require.Equal(t, h, got)

	for _, foreign := range []string{"", "host-a:8080", "{", "[]", "null", `{"pid":"x"}`, "\xff\xfe"} {
		_, ok := DecodeHolder([]byte(foreign))
		require.False(t, ok, foreign)
	}
}

func TestACandidatesKeyTellsItsRank(t *testing.T) {
	for _, slot := range slots {
		key := SlotKey("a/people", 0x1f, slot)
		priority, takeover := Rank(key)
		require.Equal(t, slot.Priority, priority, key)
		require.Equal(t, slot.Takeover, takeover, key)
		require.Equal(t, slot.Priority, Priority(key), key)
	}
	for _, key := range []string{"a/1f.next", "a/p", "a/pt", "a/1f.0pxt", "a/1f.0p99999999999999999999t", "a/xp7t", "a/1f.1p7t.2"} {
		priority, takeover := Rank(key)
		require.Zero(t, priority, key)
		require.False(t, takeover, key)
	}
}

var slots = []Slot{
	{}, {N: 3}, {Priority: 5}, {N: 1, Priority: -5}, {Takeover: true}, {N: 1, Takeover: true}, {N: 2, Priority: 7, Takeover: true},
	{N: 12, Priority: -1, Takeover: true},
}

// report R2
func TestAKeyIsReadBackAsItWasPrinted(t *testing.T) {
	for _, name := range []string{"a", "a/b", "/a", "a/b/", "a.next", "1f", "a/1f.1p1t"} {
		for _, slot := range slots {
			p, ok := ParseKey(SlotKey(name, 0x1f, slot))
			require.True(t, ok)
			require.Equal(t, Parsed{Name: name, Lease: 0x1f, Slot: slot}, p)
		}
		_, ok := ParseKey(SuccessorKey(name, 0x1f))
		require.False(t, ok, "a mark is beside the queue")
		from, end := Range(name)
		require.False(t, from <= SuccessorKey(name, 0x1f) && SuccessorKey(name, 0x1f) < end)
		from, end = SuccessorKeys(name)
		require.True(t, from <= SuccessorKey(name, 0x1f) && SuccessorKey(name, 0x1f) < end)
	}
	for _, key := range []string{
		"", "/", "/1f", "a", "a/", "a/1F", "a/01f", "a/+1f", "a/0x1f", "a/1g", "a/1f.", "a/1f.0", "a/1f.01", "a/1f.+1", "a/1f.-1", "a/1f.1.", "a/1f.1p",
		"a/1f.1p0", "a/1f.1pt", "a/1f.1p1tt", "a/1f.1p01", "a/1f.p1", "a/1f.1p1t1", "a/1f.next", "a/1f.next.next", "a/1f.1.next", "a/1f.Next", "a/.next", "a/10000000000000000",
		"a/1f\x00", "a\x00/1f",
	} {
		_, ok := ParseKey(key)
		require.False(t, ok, "%q", key)
	}
}

func TestTheTailOfAKeyIsTheSameInAPartOfTheKeySpace(t *testing.T) {
	require.Equal(t, "1f.1p1t", Tail(SlotKey("a/b", 0x1f, Slot{N: 1, Priority: 1, Takeover: true})))
	require.Equal(t, "a/b/2e", WithTail(Key("a/b", 0x1f), "2e"))
}
