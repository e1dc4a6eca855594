package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// party is a session in a queue whose entries are marked.
type party struct {
	*rig
	*Queue
	name   string
	client *simetcd.Client
	lease  clientv3.LeaseID
	entry  *Entry
	got    chan awaited
	cancel context.CancelFunc // ends the wait
}

// lineUp enters sessions one after the other, and has them wait. The names of those that are not marked
// begin with a point.
func (r *rig) lineUp(names ...string) map[string]*party {
	all := make(map[string]*party)
	for _, name := range names {
		all[name] = r.comes(name)
		all[name].wait()
	}
	time.Sleep(20 * time.Millisecond)
	return all
}

// comes enters a session.
func (r *rig) comes(name string) *party {
	p := &party{rig: r, Queue: r.queue(name), name: name, client: r.Client(name), lease: r.GrantLease(time.Hour)}
	r.Cleanup(p.Queue.Close)
	p.enter()
	return p
}

func (p *party) want() Want {
	w := Want{Lease: p.lease, Value: p.name}
	if p.name[0] != '.' {
		w.Slot = wire.MarkedSlot(0)
	}
	return w
}

func (p *party) enter() {
	p.Helper()
	var err error
	p.entry, _, err = p.Enter(p.ctx, p.want())
	require.NoError(p, err)
}

func (p *party) wait() {
	ctx, cancel := context.WithCancel(p.ctx)
	p.cancel, p.got = cancel, make(chan awaited, 1)
	e, got, done := p.entry, p.got, make(chan struct{})
	p.Cleanup(func() { cancel(); <-done }) // before the queue is closed
	go func() {
		defer close(done)
		rev, err := p.Await(ctx, e)
		got <- awaited{rev, err}
	}()
}

// holds waits for the grant, which comes within some time, and returns its token.
func (p *party) holds(within time.Duration) int64 {
	p.Helper()
	select {
	case a := <-p.got:
		require.NoError(p, a.err, p.name)
		return a.rev
	case <-time.After(within):
		require.FailNow(p, "still waiting", p.name)
		return 0
	}
}

func (p *party) waits() {
	p.Helper()
	time.Sleep(20 * time.Millisecond)
	require.Empty(p, p.got, p.name)
}

func (p *party) leave() {
	p.Helper()
	require.NoError(p, p.Leave(p.ctx, p.entry, false), p.name)
}

const soon = 20 * time.Millisecond

func points(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf(".b%d", i))
	}
	return names
}

// on returns a channel that is closed after the next request of a kind by a client, before that one goes
// on.
func (r *rig) on(client string, kind simetcd.Kind) <-chan struct{} {
	done, first := make(chan struct{}), true
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && c.Kind == kind && first {
			first = false
			close(done)
			return simetcd.Action{DelayReply: 10 * time.Millisecond}
		}
		return simetcd.Action{}
	})
	return done
}

// loses loses the answer to the next request of a kind by a client.
func (r *rig) loses(client string, kind simetcd.Kind) {
	first := true
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Client == client && c.Kind == kind && first {
			first = false
			return simetcd.Action{ErrAfter: rpctypes.ErrGRPCNoLeader}
		}
		return simetcd.Action{}
	})
}

// writesInbox reports whether a request may write an inbox.
func writesInbox(c simetcd.Call) bool {
	req, ok := c.Req.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range req.Success {
		if put := op.GetRequestPut(); put != nil && put.IgnoreLease {
			return true
		}
	}
	return false
}
