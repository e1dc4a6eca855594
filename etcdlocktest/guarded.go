package etcdlocktest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/etcdlock/etcdlock/fence"
)

// Guarded is a resource that one process at a time may use, such as a file, a table or a device. It
// fails the test when two uses overlap. It refuses the token of an earlier holder, as a resource with
// a fence does.
type Guarded struct {
	// Takes is how long each Do takes at least, 10 ms by default. Two uses at the same time can
	// overlap only if they take time. Set it before the first use.
	Takes time.Duration

	t    testing.TB
	name string
	seen *fence.Memory

	mu     sync.Mutex
	inside []*use  // uses that have not ended; guarded by mu, as is
	tokens []int64 // of all uses, in the order of their beginning
}

// use is one use of a Guarded.
type use struct {
	token int64
	from  []uintptr
}

var _ fence.Checker = (*Guarded)(nil)

// Guarded returns a new resource. The name stands in the failures of the test.
func (e *Etcd) Guarded(name string) *Guarded {
	return &Guarded{Takes: 10 * time.Millisecond, t: e.t, name: name, seen: fence.NewMemory()}
}

// Do uses the resource under a token, and calls fn meanwhile. It returns the error of fn, or an error
// that matches [fence.ErrStale] if a newer token has used the resource before. The token 0 is that of
// a program without a fence, and is never refused.
func (g *Guarded) Do(token int64, fn func() error) error {
	leave, err := g.enter(token)
	if err != nil {
		return err
	}
	defer leave()
	time.Sleep(g.Takes)
	return fn()
}

// Enter is Do for code that cannot pass a function. The use ends when the caller calls leave.
func (g *Guarded) Enter(token int64) (leave func(), err error) { return g.enter(token) }

func (g *Guarded) enter(token int64) (leave func(), err error) {
	g.t.Helper()
	if token != 0 {
		if err := g.Check(context.Background(), g.name, fence.Token{Value: token}); err != nil {
			return nil, err
		}
	}
	u := &use{token: token, from: callers()}
	g.mu.Lock()
	others := slices.Clone(g.inside)
	g.inside, g.tokens = append(g.inside, u), append(g.tokens, token)
	g.mu.Unlock()
	for _, o := range others {
		g.t.Errorf("etcdlocktest: two are inside %q at the same time: one with token %d, from\n%sand one with token %d, from\n%s",
			g.name, o.token, stack(o.from), token, stack(u.from))
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inside = slices.DeleteFunc(g.inside, func(o *use) bool { return o == u })
	}, nil
}

// Check implements [fence.Checker], for code that has one in front of the resource.
func (g *Guarded) Check(ctx context.Context, resource string, token fence.Token) error {
	return g.seen.Check(ctx, resource, token)
}

// Tokens returns the tokens of all uses, in the order in which they began.
func (g *Guarded) Tokens() []int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.tokens)
}
