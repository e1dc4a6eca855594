// Package compathook gives compat/concurrency what it needs of a session beyond the public API. The
// root sets the variables when it is initialised.
package compathook

import "context"

// CloseWithin is Session.Close, except that it makes no request once ctx has ended, as etcd's own
// package makes none. The session is an *etcdlock.Session.
var CloseWithin func(ctx context.Context, session any) error
