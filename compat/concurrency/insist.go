package concurrency

import (
	"context"

	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/queue"
)

// insist sends a request until etcd gives an answer that counts, with a bound for each try: a member
// that hangs answers nothing, and the next try goes to another one. It ends with ctx or with the
// client. The request must be one that can be sent twice.
//
// unanswered says that a try got no answer, so that it may have taken effect.
func insist(ctx context.Context, client *v3.Client, try func(context.Context) error) (unanswered bool, err error) {
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(client.Ctx(), func() { cancel(etcdlock.ErrClientClosed) })()
	unanswered, err = queue.Retry(within, 0, try)
	if err != nil && ctx.Err() != nil {
		return unanswered, ctx.Err() // and not its cause, as etcd's package has it
	}
	return unanswered, err
}
