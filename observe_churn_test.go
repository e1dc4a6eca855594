package etcdlock

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report E13: a watch that is given up while etcd is being asked for it is cancelled as soon as
// etcd has answered. clientv3 leaves it there until there is an event for it.
func TestWatchesThatAreGivenUpAreNotLeftInEtcd(t *testing.T) {
	for what, way := range map[string]func(*simetcd.Client) SessionOption{
		"by the client":       writeOn,
		"on a stream of ours": watchOn,
	} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				c := w.Client("o")
				s := w.session("o", way(c))
				lasting := w.observe(NewElection(s, "lasting"), 0)
				w.pass(time.Second)
				before := c.Open().Watches
				require.Equal(w, 1, before)
				for i := range 3000 {
					ctx, cancel := context.WithTimeout(w.ctx, time.Duration(i%3000)*time.Microsecond)
					for _, err := range NewElection(s, fmt.Sprint("brief/", i%7)).Observe(ctx) {
						_ = err // most of them end before they have seen anything
						break
					}
					cancel()
				}
				w.pass(2 * time.Second)
				require.Equal(w, before, c.Open().Watches, "left in etcd")
				lasting.cancel()
				lasting.get()
			})
		})
	}
}
