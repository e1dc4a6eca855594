// Package wire holds what lies in etcd: how a name becomes keys, and what is in
// a lock's value. It is the format of etcd's own concurrency package, of
// `etcdctl lock` and `elect`, and of the v3lock and v3election services, so that
// all of them exclude each other on one name.
package wire

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrInvalidName is returned for a name that cannot stand in front of keys.
var ErrInvalidName = errors.New("invalid name")

// CheckName tells why name cannot be the name of a queue, as long as nobody asked for
// foreign ones.
//
// "/x/" is refused so that nobody takes it for "/x" by mistake (trap A14). It is
// another queue, whose keys ("/x//1f") lie among those of "/x": a holder of "/x" and one
// who comes later and asks for "/x/" would never hear of each other.
func CheckName(name string) error {
	switch {
	case strings.HasSuffix(name, "/") && strings.Trim(name, "/") != "":
		return fmt.Errorf("%w: %s ends in a slash, and would share keys with %s: leave the slash out, or "+
			"allow foreign names to meet others who have it", ErrInvalidName, Quote(name), Quote(strings.TrimRight(name, "/")))
	case strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return fmt.Errorf("%w: %s has an empty part before or between slashes", ErrInvalidName, Quote(name))
	}
	return CheckForeignName(name)
}

// CheckForeignName tells why name cannot be the name of a queue, for those who have to
// meet users of etcd's own package, which puts a slash behind any name: its "/x/" has
// the keys "/x//1f".
//
// No key belongs to two names, with any number of slashes: a lease in hexadecimal has
// none, so what stands before the last slash of a key is its name. Hence a key in the
// range of a name that is not the name's own has a slash behind the prefix, and Nested
// finds it, be it "a//1f" in the range of "a", or "a//b/1f" in that of "a/". Ancestors
// cuts at the same slashes.
func CheckForeignName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidName)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%w: %s has a zero byte in it", ErrInvalidName, Quote(name))
	}
	return nil
}

// Prefix is what all keys of a queue begin with.
func Prefix(name string) string { return name + "/" }

// Range is the interval [from, end) of all keys of a queue: "/" is followed by
// "0" in ASCII.
func Range(name string) (from, end string) { return name + "/", name + "0" }

// Key is the key of a session in a queue: lower case, unpadded, as etcd's own
// package writes it.
func Key(name string, lease clientv3.LeaseID) string {
	return name + "/" + strconv.FormatInt(int64(lease), 16)
}

// Slot is which one of the keys that a session can have in a queue.
type Slot struct {
	N        int
	Priority int  // of a candidate
	Takeover bool // the candidate takes over from leaders of a lower priority
}

// SlotKey is a key of a session in a queue. That of the zero slot is the one of Key, which
// all others have; further ones say behind a point which they are.
func SlotKey(name string, lease clientv3.LeaseID, slot Slot) string {
	key := Key(name, lease)
	switch {
	case slot == Slot{}:
		return key
	case slot.Priority == 0 && !slot.Takeover:
		return key + "." + strconv.Itoa(slot.N)
	}
	key += "." + strconv.Itoa(slot.N) + "p" + strconv.Itoa(slot.Priority)
	if slot.Takeover {
		key += takeoverSuffix
	}
	return key
}

// takeoverSuffix is behind the priority of a candidate that takes over from lower ones.
const takeoverSuffix = "t"

// Priority is that of a candidate, by its key; 0 where the key tells of none.
func Priority(key string) int {
	priority, _ := Rank(key)
	return priority
}

// Rank is the priority of a candidate, by its key, and whether it takes over from leaders of
// a lower one; 0 and false where the key tells of none.
func Rank(key string) (priority int, takeover bool) {
	suffix := key[strings.LastIndexByte(key, '/')+1:]
	_, rank, ok := strings.Cut(suffix, "p")
	if !ok {
		return 0, false
	}
	number, takeover := strings.CutSuffix(rank, takeoverSuffix)
	n, err := strconv.Atoi(number)
	return n, takeover && err == nil
}

// markSuffix is behind the lease in a mark's key.
const markSuffix = ".next"

// MarkKey is the key of the mark that the candidate of a lease is to lead next. It stands in
// the queue, so that whoever watches the queue sees it at the same time as the rest.
func MarkKey(name string, lease clientv3.LeaseID) string { return Key(name, lease) + markSuffix }

// IsMark tells whether a key is that of a mark.
func IsMark(key string) bool { return strings.HasSuffix(key, markSuffix) }

// Side is a key or a prefix beside a queue, for what is known about a name and is no
// contender. It lies outside of the range of the name, and cannot clash with any other
// name, as none has a zero byte in it.
func Side(name, what string) string { return name + "\x00" + what }

// NameOf is the name in whose queue a key stands; false if it can stand in none.
func NameOf(key string) (name string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	if i <= 0 || strings.ContainsRune(key, 0) {
		return "", false
	}
	return key[:i], true
}

// Nested tells whether a key found in the range of name belongs to another name
// that lies inside it, and which: "a/b" for the key "a/b/1f" in the range of
// "a". A key of name itself has no slash behind the prefix.
func Nested(name, key string) (inner string, nested bool) {
	rest, ok := strings.CutPrefix(key, Prefix(name))
	if !ok {
		return "", false
	}
	if i := strings.IndexByte(rest, 0); i > 0 {
		return Prefix(name) + rest[:i], true // beside that name
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return "", false
	}
	return Prefix(name) + rest[:i], true
}

// Ancestors are the names that a name lies inside of: "a/b" and "a" for "a/b/c", "a"
// for "a/".
func Ancestors(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := strings.LastIndexByte(name, '/'); i > 0 && yield(name[:i]); {
			i = strings.LastIndexByte(name[:i], '/')
		}
	}
}
