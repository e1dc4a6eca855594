package etcdlock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// older is a process of an older version that goes on with the lease of another process, as by WithLeaseFile. It
// takes a marked key for a further key of its session, and knows nothing of messages.
type older struct {
	*world
	*clientv3.Client
	lease clientv3.LeaseID
}

func (w *world) older(lease clientv3.LeaseID) *older {
	o := &older{w, w.Client("older").Client, lease}
	o.renew()
	return o
}

func (o *older) renew() {
	_, err := o.KeepAliveOnce(o.ctx, o.lease)
	require.NoError(o, err)
}

// adopts goes on with a key: it writes the value of its own process.
func (o *older) adopts(key string) {
	o.Helper()
	kv := o.world.Get(key)
	require.NotNil(o, kv, "it stands")
	resp, err := o.Txn(o.ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).
		Then(clientv3.OpPut(key, string(kv.Value), clientv3.WithLease(o.lease))).Commit()
	require.NoError(o, err)
	require.True(o, resp.Succeeded)
}

// releases deletes a key, and tells nobody.
func (o *older) releases(key string) {
	o.Helper()
	kv := o.world.Get(key)
	require.NotNil(o, kv, "it stands")
	resp, err := o.Txn(o.ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", kv.CreateRevision)).Then(clientv3.OpDelete(key)).Commit()
	require.NoError(o, err)
	require.True(o, resp.Succeeded)
}

// An older version adopts a marked key, and releases it plainly. The entry behind it settles, which costs a second
// or three, and once: each later handover is as fast as ever, also with entries of the older version between.
func TestAnOlderVersionReleasesAMarkedKeyPlainly(t *testing.T) {
	for _, waits := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond, 5 * time.Second} {
		t.Run(waits.String(), func(t *testing.T) {
			simulate(t, func(w *world) {
				a := w.session("a", marks())
				held := w.lock(NewMutex(a, "m"))
				last := held.Token()
				var mutexes []*Mutex
				var calls []*pending[*Lock]
				for _, name := range []string{"b", "c", "d"} {
					m := NewMutex(w.session(name, marks()), "m")
					mutexes, calls = append(mutexes, m), append(calls, start(w, m.Lock))
					w.pass(10 * time.Millisecond)
				}
				w.Client("a").Cut()
				old := w.older(a.Lease())
				old.adopts(held.Key())
				w.pass(waits)
				for _, c := range calls {
					c.isWaiting()
				}
				old.renew()
				old.releases(held.Key())

				settles, soon := 3*time.Second, 20*time.Millisecond
				plain := wire.Key("m", a.Lease())
				for round := range 3 {
					for i, c := range calls {
						began := time.Now()
						l := c.get()
						within := soon
						if round == 0 && i == 0 && waits < time.Second {
							within = settles
						}
						require.Less(w, time.Since(began), within, "round %d, %d", round, i)
						require.Greater(w, l.Token(), last)
						last = l.Token()
						if i == 0 {
							w.PutKey(plain, "", a.Lease()) // the older version is one of them again
						}
						require.NoError(w, l.Unlock(w.ctx))
						calls[i] = start(w, mutexes[i].Lock)
						if i == 2 { // its turn; it was the first one behind these
							w.pass(soon)
							calls[0].isWaiting()
							old.renew()
							old.releases(plain)
						}
					}
				}
				for _, c := range calls {
					require.NoError(w, c.get().Unlock(w.ctx))
				}
				w.pass(3 * time.Second)
				for _, kv := range w.Keys("") {
					require.Equal(w, int64(a.Lease()), kv.Lease, "only the inbox that goes with the lease of the older version")
				}
				_, err := old.Revoke(w.ctx, a.Lease())
				require.NoError(w, err)
				require.Empty(w, w.Keys(""))
			})
		})
	}
}
