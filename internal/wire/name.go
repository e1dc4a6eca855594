// Package wire has the format of keys and values in etcd. It is compatible with etcd's
// own concurrency package, with `etcdctl lock` and `elect`, and with the v3lock and
// v3election services, so that all of them exclude each other on one name.
package wire

import (
	"bytes"
	"fmt"
	"iter"
	"strings"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// CheckName returns an error if name cannot be the name of a queue. Names that only foreign clients
// use are errors too; see CheckForeignName.
//
// "/x/" is refused, because a caller might take it for "/x" (trap A14). It is a different queue.
// Its keys ("/x//1f") lie among those of "/x", so a holder of "/x" and a later caller of "/x/" would
// not exclude each other.
func CheckName(name string) error {
	switch {
	case strings.HasSuffix(name, "/") && strings.Trim(name, "/") != "":
		return fmt.Errorf("%w: %s ends in a slash, and would share keys with %s: remove the slash, or "+
			"use WithForeignNames to share the lock with a program that has the slash", lockerr.ErrInvalidName, Quote(name), Quote(strings.TrimRight(name, "/")))
	case strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return fmt.Errorf("%w: %s has an empty part before or between slashes", lockerr.ErrInvalidName, Quote(name))
	}
	return CheckForeignName(name)
}

// CheckForeignName returns an error if name cannot be the name of a queue. It accepts the names of
// etcd's own package, which appends a slash to any name: its "/x/" has the keys "/x//1f".
//
// No key belongs to two names, with any number of slashes. A lease in hexadecimal has no slash, so
// the part before the last slash of a key is its name. A key in the range of a name that belongs to
// another name therefore has a slash behind the prefix, and Nested finds it: "a//1f" in the range of
// "a", or "a//b/1f" in that of "a/". Ancestors cuts at the same slashes.
func CheckForeignName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the name is empty", lockerr.ErrInvalidName)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%w: %s contains a zero byte", lockerr.ErrInvalidName, Quote(name))
	}
	return nil
}

// Prefix returns the common prefix of all keys of a queue.
func Prefix(name string) string { return name + "/" }

// Range returns the interval [from, end) of all keys of a queue. In ASCII "0" follows "/".
func Range(name string) (from, end string) { return name + "/", name + "0" }

// Side returns a key or a prefix beside a queue, for facts about a name that are no entries. It lies
// outside the range of the name, and clashes with no other name, because no name contains a zero
// byte.
func Side(name, what string) string { return name + "\x00" + what }

// Nested reports whether a key in the range of name belongs to another name inside it, and returns
// that name: "a/b" for the key "a/b/1f" in the range of "a". A key of name itself has no slash behind
// the prefix.
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

// BesideInner reports whether a key lies beside the queue of a name inside another one, such as the inbox
// "a/b\x00turn/1f" in the range of "a". Such a key is no entry, and no entry waits for it. The range begins with
// from.
func BesideInner(from string, key []byte) bool {
	i := bytes.IndexByte(key[min(len(from), len(key)):], 0)
	return i >= 0 && len(from)+i+1 < len(key)
}

// Ancestors yields the names that contain a name: "a/b" and "a" for "a/b/c", "a" for "a/".
func Ancestors(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := strings.LastIndexByte(name, '/'); i > 0 && yield(name[:i]); {
			i = strings.LastIndexByte(name[:i], '/')
		}
	}
}
