package etcdlock

import (
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Striped spreads keys without number over a fixed number of mutexes, for code that locks
// by key where a queue in etcd for each key would be too many, or where a hold of several
// keys at once is to stay within few names. Two keys may share a mutex; so never hold one
// and wait for another, unless through a [MultiMutex] with the names of their mutexes, each
// once.
type Striped struct {
	session *Session
	name    string
	n       int
	opts    []MutexOption
}

// NewStriped names n mutexes: name/0 to name/n-1. All processes have to say the same n, as
// it decides which mutex a key has; with another n the same key has another mutex, and
// nothing tells. To change it, stop all, or change the name too. If n is below 1, each call of
// a mutex that For returns fails with [ErrInvalidArgument]. For names and options see [NewMutex]; name itself can then not be locked.
func NewStriped(s *Session, name string, n int, opts ...MutexOption) *Striped {
	return &Striped{session: s, name: name, n: n, opts: opts}
}

// For is the mutex of a key. Which one it is stays the same for all versions of this
// package, and is easily found in other languages: FNV-1a of the key's bytes, 64 bits,
// modulo n. (Offset 14695981039346656037, prime 1099511628211; "orders/42" of 16 is 15.)
func (s *Striped) For(key string) *Mutex {
	if s.n < 1 {
		return &Mutex{session: s.session, invalid: fmt.Errorf("%w: %s is spread over %d mutexes, give NewStriped at least one",
			ErrInvalidArgument, wire.Quote(s.name), s.n)}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return NewMutex(s.session, s.name+"/"+strconv.FormatUint(h.Sum64()%uint64(s.n), 10), s.opts...)
}

// Len is how many mutexes there are: n of [NewStriped].
func (s *Striped) Len() int { return s.n }
