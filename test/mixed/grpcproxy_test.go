package mixed

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/faultproxy"
)

// grpcProxy starts etcd's own proxy in front of some endpoints.
func (w *world) grpcProxy(endpoints []string) (endpoint string) {
	w.t.Helper()
	p, err := programs()
	require.NoError(w.t, err)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(w.t))
	endpoint = "http://" + address
	proxy, err := p.Serve(&kids, endpoint, filepath.Join(w.tempDir(), "proxy.log"),
		"grpc-proxy", "start", "--endpoints", strings.Join(endpoints, ","), "--listen-addr", address,
		"--advertise-client-url", address) // it connects to this address, and ends if there is no listener
	require.NoError(w.t, err)
	w.t.Cleanup(proxy.Kill)
	c := w.clientOf(clientv3.Config{Endpoints: []string{endpoint}})
	require.NoError(w.t, proxy.Await(w.ctx(), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := c.Get(ctx, w.name("any"))
		return err
	}))
	return endpoint
}

// What holds behind the proxy: exclusion, order, proof and tokens, as they rest on
// revisions. Ours behind it are among others behind it and beside it.
func TestAFleetBehindTheGRPCProxy(t *testing.T) {
	var sum table
	defer sum.print(t)
	for _, what := range []string{"lock", "election"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.endpoints = []string{w.grpcProxy(w.cluster.Endpoints())}
			f := newFleet(w, w.name("q"), operations(t))
			f.report(&sum, "grpc-proxy", what, f.run(foreign[:3], what == "election"))
		})
	}
}

// What does not hold behind the proxy is the deadline. It answers a renewal with the answer
// to one of its own, which may have been sent before; so we count from too late, by up to
// the latency between the proxy and etcd, which is made large here. Without the proxy the
// same latency does nothing. Should this fail one day, the proxy has got better, and what
// we say of it is too hard.
//
// It takes a renewal of ours that comes between the last of the proxy's and its answer, so
// that the rhythm of the two decides, and they may lock: hence holders with several TTLs,
// and a network that is slow by turns.
func TestBehindTheGRPCProxyADeadlineMayBeLate(t *testing.T) {
	w := newWorld(t)
	slow := w.faults()
	endpoint := w.grpcProxy(slow.Endpoints())
	var behind []*hold
	for n := range 10 {
		ttl := time.Duration(6+n%5) * time.Second
		behind = append(behind, w.must(newHolder(w, endpoint, fmt.Sprint("behind", n), ttl)))
		time.Sleep(170 * time.Millisecond) // not all in step
	}
	direct := w.must(newHolder(w, slow.Endpoints()[0], "direct", 6*time.Second))
	defer slow.Resume()
	var late, lateDirect time.Duration
	began := time.Now()
	for turn := 7 * time.Second; time.Since(began) < time.Minute && late <= 200*time.Millisecond; turn += 500 * time.Millisecond {
		slow.Delay(faultproxy.ToClient, 1500*time.Millisecond)
		for end := time.Now().Add(turn); time.Now().Before(end) && late <= 200*time.Millisecond; time.Sleep(25 * time.Millisecond) {
			for _, h := range behind {
				late = max(late, w.excess(h))
			}
			lateDirect = max(lateDirect, w.excess(direct))
		}
		slow.Resume()
		time.Sleep(time.Second)
	}
	t.Logf("figure: with 1.5s between the proxy and etcd a deadline was up to %v later than the lease's end, found after %v",
		late.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	require.Greater(t, late, 200*time.Millisecond)
	require.Zero(t, lateDirect)
	for _, h := range append(behind, direct) {
		w.release(h)
	}
}

// newHolder has a margin of nothing, so that the deadline is where etcd should have it.
func newHolder(w *world, endpoint, name string, ttl time.Duration) *ours {
	c := w.clientOf(clientv3.Config{Endpoints: []string{endpoint}})
	o := newOurMutex(w, c, w.name(name))
	o.session = w.session(c, etcdlock.WithTTL(ttl), etcdlock.WithMargin(time.Nanosecond))
	return o
}

// excess is how much longer a holder relies on its lease than etcd keeps it. It is 0 unless that is
// certain, because etcd reports whole seconds.
func (w *world) excess(h *hold) time.Duration {
	w.t.Helper()
	resp, err := w.admin.TimeToLive(w.ctx(), h.lease)
	require.NoError(w.t, err)
	deadline := h.deadline()
	if deadline.IsZero() {
		return 0 // it has ended
	}
	return max(0, time.Until(deadline)-time.Duration(resp.TTL+1)*time.Second)
}
