// Package lasttry tells the Close of a session, by its context, that a context that has ended
// means it: compat/concurrency leaves a lease behind then, as etcd's own package does.
package lasttry

import "context"

type key struct{}

// Without returns a context under which no last attempt is made once it has ended.
func Without(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Off tells whether ctx comes from Without.
func Off(ctx context.Context) bool { return ctx.Value(key{}) != nil }
