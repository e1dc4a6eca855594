package main

import (
	"context"
	"fmt"
)

// manyNames measures callers of one process and session, each with another name, so that no
// caller waits for another one. The limit is the number of requests of a client.
func manyNames(ctx context.Context, b *bench) error {
	list := b.onEtcdOnly()
	what := fmt.Sprintf("%d callers, a name each", b.callers)
	for round := range b.rounds {
		for i := range list {
			if err := ctx.Err(); err != nil {
				return err
			}
			c := list[(i+round)%len(list)]
			o := order{
				Contestant: c.key,
				Where:      b.where,
				Name:       b.name("names/%s/%d", c.key, round),
				Callers:    b.callers,
				OwnNames:   true,
			}
			at := spot{"names", b.nodes, what, c.key, "pairs a second"}
			replies, _, err := b.contend(ctx, 1, o, at, "")
			if err != nil {
				return err
			}
			b.book.add(at, "1/s", high, float64(replies[0].Count)/b.span.Seconds())
			b.checks.add(fmt.Sprintf("%s, %d nodes, %s", c.key, b.nodes, what), replies[0].Verdict)
		}
	}
	return nil
}
