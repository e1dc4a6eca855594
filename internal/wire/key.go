package wire

import (
	"math"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The keys of a queue are printed and parsed in this file only. ParseKey is the inverse of
// SlotKey: it accepts exactly the keys that SlotKey prints.
//
//	name/1f         the first key of lease 1f, as every client writes it
//	name/1f.2       another key of the same lease
//	name/1f.0p5t    a candidate of priority 5 that takes over from leaders of a lower priority

// Slot tells the keys of one session in a queue apart.
type Slot struct {
	N        int
	Priority int  // of a candidate
	Takeover bool // the candidate takes over from leaders of a lower priority
}

// Ranked reports whether two slots have the same priority and takeover.
func (s Slot) Ranked(as Slot) bool { return s.Priority == as.Priority && s.Takeover == as.Takeover }

const (
	slotMark       = '.' // in front of the slot
	priorityMark   = 'p' // in front of the priority
	takeoverSuffix = "t" // behind the priority of a candidate that takes over from lower ones
)

// Hex returns a lease in lower case and unpadded, as etcdctl and etcd's own package write it.
func Hex(lease clientv3.LeaseID) string { return strconv.FormatInt(int64(lease), 16) }

// Key returns the first key of a session in a queue, as every client writes it.
func Key(name string, lease clientv3.LeaseID) string {
	return name + "/" + Hex(lease)
}

// SlotKey returns a key of a session in a queue. For the zero slot it is that of Key, which every
// client uses. The keys of other slots end with a point and the slot.
func SlotKey(name string, lease clientv3.LeaseID, slot Slot) string {
	key := Key(name, lease)
	if slot == (Slot{}) {
		return key
	}
	key += string(slotMark) + strconv.Itoa(slot.N)
	if slot.Priority != 0 || slot.Takeover {
		key += string(priorityMark) + strconv.Itoa(slot.Priority)
	}
	if slot.Takeover {
		key += takeoverSuffix
	}
	return key
}

// SuccessorKey returns the key that names the candidate of a lease as the next leader. It lies beside
// the queue. Inside the queue, a candidate of another library would wait for this key, and would
// report it as the leader.
func SuccessorKey(name string, lease clientv3.LeaseID) string { return Key(Side(name, "next"), lease) }

// SuccessorKeys returns the range of all successor keys beside the queue of a name.
func SuccessorKeys(name string) (from, end string) { return Range(Side(name, "next")) }

// Parsed is the parts of a key of a queue.
type Parsed struct {
	Name  string
	Lease clientv3.LeaseID
	Slot  Slot
}

// ParseKey is the inverse of SlotKey. ok is false for a key that SlotKey does not print.
func ParseKey(key string) (p Parsed, ok bool) {
	name, ok := NameOf(key)
	if !ok {
		return Parsed{}, false
	}
	lease, slot, more := strings.Cut(key[len(name)+1:], string(slotMark))
	id, err := strconv.ParseInt(lease, 16, 64)
	if err != nil || strconv.FormatInt(id, 16) != lease {
		return Parsed{}, false
	}
	p = Parsed{Name: name, Lease: clientv3.LeaseID(id)}
	if !more {
		return p, true
	}
	if p.Slot, ok = parseSlot(slot); !ok {
		return Parsed{}, false
	}
	return p, true
}

// parseSlot parses the text after the point.
func parseSlot(text string) (s Slot, ok bool) {
	n, rank, ranked := strings.Cut(text, string(priorityMark))
	if s.N, ok = parseInt(n); !ok || s.N < 0 {
		return Slot{}, false
	}
	if !ranked {
		return s, s.N > 0 // slot 0 without a rank is the key without a point
	}
	rank, s.Takeover = strings.CutSuffix(rank, takeoverSuffix)
	s.Priority, ok = parseInt(rank)
	return s, ok && (s.Priority != 0 || s.Takeover)
}

// parseInt parses exactly the texts that strconv.Itoa prints.
func parseInt(text string) (n int, ok bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && strconv.Itoa(n) == text
}

// Priority returns the priority in a candidate's key, 0 if there is none.
func Priority(key string) int {
	priority, _ := Rank(key)
	return priority
}

// Rank returns the priority in a candidate's key, and whether the candidate takes over from leaders
// of a lower priority. It returns 0 and false for a key without a priority.
func Rank(key string) (priority int, takeover bool) {
	if strings.IndexByte(Tail(key), priorityMark) < 0 { // nearly always, and without an allocation
		return 0, false
	}
	p, _ := ParseKey(key)
	return p.Slot.Priority, p.Slot.Takeover
}

// PausePriority is the priority in the key of a pause of an election. No candidate has it, or a higher
// one.
const PausePriority = math.MaxInt32

// Pauses reports whether a key is that of a pause. No process leads by it.
func Pauses(key string) bool {
	priority, takeover := Rank(key)
	return priority == PausePriority && !takeover
}

// NameOf returns the name of the queue that contains a key. ok is false for a key that no queue can
// contain.
func NameOf(key string) (name string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i <= 0 || strings.ContainsRune(key, 0) {
		return "", false
	}
	return key[:i], true
}

// Tail returns the part of a key behind its name. It is the same for every client, including a client
// in a namespace, which sees names without their prefix.
func Tail(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// WithTail returns the key with this tail in the queue of another key.
func WithTail(key, tail string) string { return key[:strings.LastIndexByte(key, '/')+1] + tail }
