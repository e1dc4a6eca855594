package wire

import (
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Direct handoff: an entry that leaves a queue tells the next one, in the same transaction, by a message in an
// inbox beside the queue. An entry that has an inbox is marked, by its slot. Older versions read a
// marked key as a further key of its session.
//
//	name/1f.1000000000    a marked key of lease 1f
//	name\x00turn/1f       the inbox of lease 1f for this name

// firstMarked is the first of the two marked slots. No session comes to as many keys under one name.
const firstMarked = 1_000_000_000

// MarkedSlot returns a marked slot: the first one for 0, the second one for 1.
func MarkedSlot(n int) Slot { return Slot{N: firstMarked + n} }

// Marked reports whether a slot is marked.
func (s Slot) Marked() bool { return s == MarkedSlot(0) || s == MarkedSlot(1) }

// InboxKey returns the inbox of a lease beside the queue of a name.
func InboxKey(name string, lease clientv3.LeaseID) string { return Key(Side(name, "turn"), lease) }

// IsInbox reports whether a key is the inbox of a lease, beside the queue of any name.
func IsInbox(key string, lease clientv3.LeaseID) bool {
	return strings.HasSuffix(key, InboxKey("", lease))
}

// MarkedOf returns the lease of a marked key in the queue of a name. ok is false for any other key.
func MarkedOf(name, key string) (lease clientv3.LeaseID, ok bool) {
	if strings.IndexByte(Tail(key), slotMark) < 0 { // mostly, and without an allocation
		return 0, false
	}
	p, ok := ParseKey(key)
	return p.Lease, ok && p.Name == name && p.Slot.Marked()
}

// Place is an entry in a list of a queue.
type Place struct {
	Key     string
	Created int64 // its create revision
}

// Message is what an entry reads in its inbox.
type Message struct {
	To     int64   // create revision of the entry that is told
	Turn   bool    // true: it holds. false: it is to look for itself
	After  int64   // of a turn: the token of the one that leaves
	Behind []Place // of a turn: entries behind it, oldest first, complete up to the last one
}

const (
	turn  = "turn"
	look  = "look"
	marks = ".:" // in front of the lease of a marked key, by its slot
)

// Encode returns the value for an inbox beside the queue of a name:
//
//	turn 17 -3 2.rmp 1.1 3:-2 1/8c02
//	look 17
//
// A turn goes on with the distance of the sender's token from the create revision. An entry of the list begins with the distance from the create revision before. A marked key follows as a
// point, or as a colon for the second slot, with the distance from the lease of the marked key before: leases
// that etcd has chosen are mostly near each other. Any other key follows as a slash and its tail. Distances
// are in base 36. The list ends before a key that no version of this library has written.
func (m Message) Encode(name string) string {
	text := []byte(look)
	if m.Turn {
		text = []byte(turn)
	}
	text = strconv.AppendInt(append(text, ' '), m.To, 10)
	if m.Turn {
		text = strconv.AppendInt(append(text, ' '), m.After-m.To, 36)
	}
	last, lease := m.To, clientv3.LeaseID(0)
	for _, p := range m.Behind {
		key, ok := ParseKey(p.Key)
		if !ok || key.Name != name || p.Created <= last {
			break
		}
		text = strconv.AppendInt(append(text, ' '), p.Created-last, 36)
		last = p.Created
		if !key.Slot.Marked() {
			text = append(append(text, '/'), Tail(p.Key)...)
			continue
		}
		text = strconv.AppendInt(append(text, marks[key.Slot.N-firstMarked]), int64(key.Lease-lease), 36)
		lease = key.Lease
	}
	return string(text)
}

// ParseMessage parses the value of an inbox beside the queue of a name. What it cannot parse
// tells nothing: ok is false.
func ParseMessage(name, value string) (m Message, ok bool) {
	kind, rest, _ := strings.Cut(value, " ")
	to, list, listed := strings.Cut(rest, " ")
	m.Turn = kind == turn
	if !m.Turn && (kind != look || listed) {
		return Message{}, false
	}
	var err error
	if m.To, err = strconv.ParseInt(to, 10, 64); err != nil || m.To <= 0 {
		return Message{}, false
	}
	if m.Turn {
		var after string
		after, list, listed = strings.Cut(list, " ")
		by, err := strconv.ParseInt(after, 36, 64)
		if m.After = m.To + by; err != nil || m.After <= 0 {
			return Message{}, false
		}
	}
	at := Parsed{Name: name}
	for last := m.To; listed; {
		var one string
		one, list, listed = strings.Cut(list, " ")
		i := strings.IndexAny(one, marks+"/")
		if i < 0 {
			return Message{}, false
		}
		by, err := strconv.ParseInt(one[:i], 36, 64)
		if err != nil || by <= 0 || last+by <= last {
			return Message{}, false
		}
		key, parsed := at.next(one[i], one[i+1:])
		if !parsed {
			return Message{}, false
		}
		last += by
		m.Behind = append(m.Behind, Place{Key: key, Created: last})
	}
	return m, true
}

// next returns the next key of a list. p is the last marked one.
func (p *Parsed) next(kind byte, text string) (key string, ok bool) {
	n := strings.IndexByte(marks, kind)
	if n < 0 {
		key = Prefix(p.Name) + text
		other, ok := ParseKey(key)
		return key, ok && other.Name == p.Name
	}
	by, err := strconv.ParseInt(text, 36, 64)
	p.Lease, p.Slot = p.Lease+clientv3.LeaseID(by), MarkedSlot(n)
	return SlotKey(p.Name, p.Lease, p.Slot), err == nil
}
