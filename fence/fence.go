// Package fence lets a resource refuse the writes of a process that no longer holds its lock.
//
//	token := fence.Of(lock, 0) // by the holder
//	err := checker.Check(ctx, "accounts/7", token) // at the resource
//	errors.Is(err, fence.ErrStale)
//
// A lock of etcdlock ends by a deadline, but a process can be stopped after its last look at the
// clock, and write when another process holds the lock. Only the resource can refuse this write.
// The holder sends a [Token] with each write. Tokens grow from holder to holder, so the resource
// keeps the largest token and refuses every smaller one.
//
// The packages below this one check tokens in SQL databases (fencesql), HTTP servers (fencehttp)
// and gRPC servers (fencegrpc). docs/fencing.md begins with a service and lists the pitfalls. This
// package imports the standard library alone.
package fence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// MaxResource is the largest length of a resource's name in bytes.
const MaxResource = 512

// ErrStale is matched by the error of a check that refused a token. The holder of this token no
// longer holds the lock, and must not try again.
var ErrStale = errors.New("fence: stale token")

// ErrInvalid is matched by the error for a token or a name of a resource that cannot be checked.
var ErrInvalid = errors.New("fence: invalid")

// Token is a number that grows from holder to holder of a lock.
type Token struct {
	// Epoch counts the histories of etcd. It is 0 until etcd is replaced, or restored from a backup
	// without a bumped revision; then it is raised by one in the configuration of all holders.
	Epoch int64
	// Value is a revision of etcd. It is at least 1.
	Value int64
}

// Of returns the token of a hold: an etcdlock.Lock, an etcdlock.Term or any other etcdlock.Held.
//
// In an election that is shared with etcd's own package, use the create revision instead:
// Token{Epoch: epoch, Value: term.CreateRevision()}.
func Of(hold interface{ Token() int64 }, epoch int64) Token {
	return Token{Epoch: epoch, Value: hold.Token()}
}

// Compare returns -1 if t is older than u, 0 if they are equal, and 1 if t is newer.
func (t Token) Compare(u Token) int {
	return cmp.Or(cmp.Compare(t.Epoch, u.Epoch), cmp.Compare(t.Value, u.Value))
}

// Less reports whether t is older than u.
func (t Token) Less(u Token) bool { return t.Compare(u) < 0 }

// String returns the epoch and the value with a dot between them: "0.4711".
func (t Token) String() string {
	return strconv.FormatInt(t.Epoch, 10) + "." + strconv.FormatInt(t.Value, 10)
}

// MarshalText returns what String does. So a token is a string in JSON, where many readers round
// numbers above 2^53.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is [Parse].
func (t *Token) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// Parse reads what String returns. A number alone is a value of epoch 0, as in the variable
// ETCDLOCK_TOKEN of the command. The error matches [ErrInvalid].
func Parse(s string) (Token, error) {
	epoch, value, found := strings.Cut(s, ".")
	if !found {
		epoch, value = "0", s
	}
	var t Token
	var ok [2]bool
	t.Epoch, ok[0] = number(epoch)
	t.Value, ok[1] = number(value)
	if !ok[0] || !ok[1] || t.Value == 0 {
		return Token{}, fmt.Errorf("%w token %q: want an epoch and a revision, as in 0.4711", ErrInvalid, s)
	}
	return t, nil
}

// number reads decimal digits alone, so that equal tokens have one form.
func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == s && n >= 0
}

// Checker is a resource, or stands in front of some.
type Checker interface {
	// Check claims the resource for the token. It returns nil if no newer token has claimed this
	// resource before, and from then on every older token is refused. An equal token is accepted:
	// a holder writes more than once.
	//
	// A refused token gives a [*Stale], which matches [ErrStale]. An invalid token or resource
	// gives an error that matches [ErrInvalid]. After any other error the token may have been
	// claimed.
	Check(ctx context.Context, resource string, token Token) error
}

// Stale is the error of a check that refused a token. It matches [ErrStale].
//
//nolint:errname // fence.Stale reads as what it is
type Stale struct {
	Resource string
	Token    Token // the refused token
	Seen     Token // the newer token that claimed the resource; zero if the resource did not tell
}

func (e *Stale) Error() string {
	return fmt.Sprintf("%v: %q was claimed with token %v, newer than %v: stop, the lock is lost",
		ErrStale, e.Resource, e.Seen, e.Token)
}

// Is reports whether target is [ErrStale].
func (e *Stale) Is(target error) bool { return target == ErrStale }

// Valid returns nil if every Checker can take the resource and the token. The zero value of a
// handle has the token 0, which no hold has.
func Valid(resource string, token Token) error {
	switch {
	case resource == "" || len(resource) > MaxResource:
		return fmt.Errorf("%w resource: its name has %d bytes; give it 1 to %d", ErrInvalid, len(resource), MaxResource)
	case token.Value < 1 || token.Epoch < 0:
		return fmt.Errorf("%w token %v: take it from a hold", ErrInvalid, token)
	}
	return nil
}

type tokenKey struct{}

// WithToken returns a context that carries the token. The transport of fencehttp and the
// interceptors of fencegrpc send it with each request under this context.
func WithToken(ctx context.Context, token Token) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}

// FromContext returns the token that ctx carries: that of [WithToken], or at a server the token
// that came with the request and passed the check.
func FromContext(ctx context.Context) (Token, bool) {
	token, ok := ctx.Value(tokenKey{}).(Token)
	return token, ok
}

// Memory is a [Checker] for resources that live in one process and end with it, and for tests. It
// forgets everything when the process ends, and a second replica knows nothing of it. It is safe
// for concurrent use.
type Memory struct {
	mu   sync.Mutex
	seen map[string]Token // by resource, the newest token; guarded by mu
}

// NewMemory returns a Memory that has seen no token.
func NewMemory() *Memory { return &Memory{seen: map[string]Token{}} }

// Check implements [Checker]. It does not block.
func (m *Memory) Check(_ context.Context, resource string, token Token) error {
	if err := Valid(resource, token); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if seen := m.seen[resource]; token.Less(seen) {
		return &Stale{Resource: resource, Token: token, Seen: seen}
	}
	m.seen[resource] = token
	return nil
}
