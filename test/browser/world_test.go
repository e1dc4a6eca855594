package browser

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// peer is a process of another host, as etcd shows it.
type peer struct {
	t           *testing.T
	owner, host string
	pid         int
	lease       clientv3.LeaseID
}

// newPeer grants a lease, which is renewed until the test ends.
func newPeer(t *testing.T, owner, host string, pid int) *peer {
	t.Helper()
	needBrowser(t)
	lease, err := world.client.Grant(t.Context(), 10)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	alive, err := world.client.KeepAlive(ctx, lease.ID)
	require.NoError(t, err)
	go func() {
		for range alive {
		}
	}()
	t.Cleanup(func() {
		cancel()
		_, _ = world.client.Revoke(context.Background(), lease.ID)
	})
	return &peer{t, owner, host, pid, lease.ID}
}

// enter adds an entry to a queue, some time ago.
func (p *peer) enter(name string, ago time.Duration, change ...func(*wire.Holder)) (key string) {
	p.t.Helper()
	h := wire.Holder{Owner: p.owner, Host: p.host, PID: p.pid, Since: time.Now().UTC().Add(-ago)}
	for _, c := range change {
		c(&h)
	}
	return p.put(wire.Key(name, p.lease), h.Encode())
}

// campaign adds a candidate.
func (p *peer) campaign(name, value string, priority int) {
	p.t.Helper()
	p.put(wire.SlotKey(name, p.lease, wire.Slot{Priority: priority}), value)
}

func (p *peer) put(key, value string) string {
	p.t.Helper()
	_, err := world.client.Put(p.t.Context(), key, value, clientv3.WithLease(p.lease))
	require.NoError(p.t, err)
	return key
}

func (p *peer) leave(key string) {
	p.t.Helper()
	_, err := world.client.Delete(p.t.Context(), key)
	require.NoError(p.t, err)
}

// prefixOf is a prefix for the names of a test.
func prefixOf(t *testing.T) string { return strings.ToLower(t.Name()) + "/" }
