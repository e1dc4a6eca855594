package docs

import (
	"context"
	"time"

	"github.com/etcdlock/etcdlock"
)

func refreshOften(ctx context.Context, session *etcdlock.Session, refresh func(context.Context) error) error {
	// This process locks the name again and again, and others rarely do: after Unlock the key stays
	// in etcd for up to a minute, so that the next Lock needs no request.
	mutex := etcdlock.NewMutex(session, "cache/refresh", etcdlock.WithRetention(time.Minute))
	return mutex.Do(ctx, func(ctx context.Context, _ *etcdlock.Lock) error { return refresh(ctx) })
}

var _ = refreshOften
