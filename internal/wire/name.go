// Package wire holds what lies in etcd: how a name becomes keys, and what is in
// a lock's value. It is the format of etcd's own concurrency package, of
// `etcdctl lock` and `elect`, and of the v3lock and v3election services, so that
// all of them exclude each other on one name.
package wire

import (
	"fmt"
	"iter"
	"strings"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

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
			"allow foreign names to meet others who have it", lockerr.ErrInvalidName, Quote(name), Quote(strings.TrimRight(name, "/")))
	case strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return fmt.Errorf("%w: %s has an empty part before or between slashes", lockerr.ErrInvalidName, Quote(name))
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
		return fmt.Errorf("%w: it is empty", lockerr.ErrInvalidName)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%w: %s has a zero byte in it", lockerr.ErrInvalidName, Quote(name))
	}
	return nil
}

// Prefix is what all keys of a queue begin with.
func Prefix(name string) string { return name + "/" }

// Range is the interval [from, end) of all keys of a queue: "/" is followed by
// "0" in ASCII.
func Range(name string) (from, end string) { return name + "/", name + "0" }

// Side is a key or a prefix beside a queue, for what is known about a name and is no
// contender. It lies outside of the range of the name, and cannot clash with any other
// name, as none has a zero byte in it.
func Side(name, what string) string { return name + "\x00" + what }

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
