package etcdlock

import (
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Striped spreads any number of keys over a fixed number of mutexes. It is for code that locks by
// key where a queue in etcd for each key would be too many, or where a hold of several keys at once
// has to stay within few names. Two keys may share a mutex. Never hold one key and wait for
// another, unless through a [MultiMutex] with the names of their mutexes, each once.
type Striped struct {
	session *Session
	name    string
	n       int
	opts    []MutexOption
}

// NewStriped names n mutexes, name/0 to name/n-1. For names and options see [NewMutex]. The name
// itself can then not be locked. If n is below 1, each call of a mutex that For returns fails with
// [ErrInvalidArgument].
//
// All processes have to use the same n, because it decides which mutex a key has. With another n
// the same key has another mutex, and no error reports it. To change n, stop all processes, or
// change the name too.
func NewStriped(s *Session, name string, n int, opts ...MutexOption) *Striped {
	return &Striped{session: s, name: name, n: n, opts: opts}
}

// For returns the mutex of a key. The choice stays the same for all versions of this package, and
// is easily computed in other languages: FNV-1a of the key's bytes, 64 bits, modulo n. (Offset
// 14695981039346656037, prime 1099511628211; "orders/42" of 16 is 15.)
func (s *Striped) For(key string) *Mutex {
	if s.n < 1 {
		return &Mutex{session: s.session, invalid: fmt.Errorf("%w: %s is spread over %d mutexes: give NewStriped at least 1",
			ErrInvalidArgument, wire.Quote(s.name), s.n)}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return NewMutex(s.session, s.name+"/"+strconv.FormatUint(h.Sum64()%uint64(s.n), 10), s.opts...)
}

// Len returns the number of mutexes, which is n of [NewStriped].
func (s *Striped) Len() int { return s.n }
