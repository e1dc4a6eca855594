package concurrency

import (
	"context"

	v3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdkv"
)

// insist sends a request until etcd has answered it. Each try has a bound, because a member that hangs
// does not answer, and the next try goes to another member. insist ends with ctx or with the client.
// The request must be one that can be sent twice.
//
// unanswered is true if a try got no answer, so that it may have taken effect.
func insist(ctx context.Context, client *v3.Client, try func(context.Context) error) (unanswered bool, err error) {
	policy := etcdkv.Requests(0)
	policy.Client = client
	unanswered, err = etcdkv.Retry(ctx, policy, try)
	if err != nil && ctx.Err() != nil {
		return unanswered, ctx.Err() // not its cause, as in etcd's package
	}
	return unanswered, err
}
