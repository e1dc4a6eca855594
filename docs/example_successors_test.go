package docs

import (
	"context"

	"github.com/etcdlock/etcdlock"
)

func preferHostB(ctx context.Context, session *etcdlock.Session, serve func(context.Context) (moveTo string)) error {
	election := etcdlock.NewElection(session, "scheduler",
		etcdlock.WithPriority(5), // leads before candidates of a lower priority
		etcdlock.WithTakeover(0)) // and preempts them, at once
	return election.Run(ctx, "host-b", func(ctx context.Context, term *etcdlock.Term) error {
		if next := serve(ctx); next != "" { // returns before maintenance of this host
			return term.Transfer(context.WithoutCancel(ctx), next) // the named candidate leads next
		}
		return ctx.Err()
	})
}

var _ = preferHostB
