package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The mark is in the key, and every version reads the key as a further one of its session.
func TestMarkedKeysAreKeysOfFurtherSlots(t *testing.T) {
	key := SlotKey("jobs/42", 0x1f, MarkedSlot(0))
	require.Equal(t, "jobs/42/1f.1000000000", key)
	require.Equal(t, "jobs/42/1f.1000000001", SlotKey("jobs/42", 0x1f, MarkedSlot(1)))
	p, ok := ParseKey(key)
	require.True(t, ok)
	require.Equal(t, Parsed{Name: "jobs/42", Lease: 0x1f, Slot: MarkedSlot(0)}, p)
	require.Equal(t, "jobs/42\x00turn/1f", InboxKey("jobs/42", 0x1f))
	from, end := Range("jobs/42")
	require.False(t, InboxKey("jobs/42", 0x1f) >= from && InboxKey("jobs/42", 0x1f) < end)
}

func TestOnlyTheTwoMarkedSlotsOfTheNameAreMarked(t *testing.T) {
	for key, marked := range map[string]bool{
		"q/1f.1000000000": true, "q/1f.1000000001": true,
		"q/1f": false, "q/1f.1": false, "q/1f.1000000002": false, "q/1f.1000000000p1": false, "q/1f.01000000000": false,
		"q/in/1f.1000000000": false, "q/.1000000000": false, "other/1f.1000000000": false,
	} {
		lease, ok := MarkedOf("q", key)
		require.Equal(t, marked, ok, key)
		if marked {
			require.EqualValues(t, 0x1f, lease)
		}
	}
}

func TestAMessageIsReadAsItWasWritten(t *testing.T) {
	for text, m := range map[string]Message{
		"look 17":    {To: 17},
		"turn 17 -1": {To: 17, Turn: true, After: 16},
		"turn 17 a 2.rnl 1/8c02 u:2 1.-3 1/8c03.2": {To: 17, Turn: true, After: 27, Behind: []Place{
			{Key: "a/b/8c01.1000000000", Created: 19}, {Key: "a/b/8c02", Created: 20}, {Key: "a/b/8c03.1000000001", Created: 50},
			{Key: "a/b/8c00.1000000000", Created: 51}, {Key: "a/b/8c03.2", Created: 52},
		}},
		"turn 1 0 1.1y2p0ij32e8e7 1.1": {To: 1, Turn: true, After: 1, Behind: []Place{
			{Key: "a/b/7fffffffffffffff.1000000000", Created: 2}, {Key: "a/b/-8000000000000000.1000000000", Created: 3},
		}},
	} {
		require.Equal(t, text, m.Encode("a/b"))
		got, ok := ParseMessage("a/b", text)
		require.True(t, ok, text)
		require.Equal(t, m, got)
	}
}

// A list that is cut off is complete up to its last entry.
func TestAListEndsBeforeAKeyOfAStranger(t *testing.T) {
	for _, strange := range []string{"q/x y", "q/", "q/in/1f", "q/1F", "q/1f.2 3:4"} {
		m := Message{To: 1, Turn: true, After: 1, Behind: []Place{{Key: "q/1f", Created: 2}, {Key: strange, Created: 3}, {Key: "q/2f", Created: 4}}}
		require.Equal(t, "turn 1 0 1/1f", m.Encode("q"), strange)
	}
	require.Equal(t, "turn 5 0", Message{To: 5, Turn: true, After: 5, Behind: []Place{{Key: "q/1f", Created: 5}}}.Encode("q"), "a list that is out of order")
}

// A handover writes a message, so a full list is to be short.
func TestAFullListIsShort(t *testing.T) {
	m := Message{To: 123456789, Turn: true, After: 123456777}
	for i := range 31 { // sessions that began within ten minutes
		lease := 0x694d7f1a2b3c4d00 + clientv3.LeaseID(i*7919*i%600_000)<<8
		m.Behind = append(m.Behind, Place{Key: SlotKey("q", lease, MarkedSlot(i%2)), Created: m.To + int64(3*i+3)})
	}
	require.Less(t, len(m.Encode("q")), 320)
}

func FuzzMessage(f *testing.F) {
	for _, text := range []string{
		"", " ", "turn", "turn ", "turn 0", "look 1 ", "turn 1 ", "turn 1 0 1/", "turn 1 0 1:", "turn 1 0 0/1f", "turn 1 0 1/1f 1/", "turn 1 0 1",
		"turn 9223372036854775807 0 1/1f", "turn 5 -5", "turn 9223372036854775807 1", "turn 1 0 1/a/1f", "turn 1 0 1/1f.1000000000", "turn 1 0 1.zzzzzzzzzzzzzz", "turn 1 0 1.-1 1:1y2p0ij32e8e7",
		"look 17", "turn 17 a 2.rnl 1/8c02 u:2 1.-3 1/8c03.2",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, ok := ParseMessage("q", text)
		if !ok {
			return
		}
		last := m.To
		for _, p := range m.Behind {
			require.Greater(t, p.Created, last)
			last = p.Created
			require.True(t, strings.HasPrefix(p.Key, "q/"))
		}
		again, ok := ParseMessage("q", m.Encode("q"))
		require.True(t, ok)
		require.Equal(t, m.To, again.To)
		require.Equal(t, m.Turn, again.Turn)
		require.Equal(t, m.After, again.After)
		require.Equal(t, m.Behind, again.Behind)
	})
}
