package mixed

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/testhook"
)

// Sessions mark their entries, as in a long queue. One may write beside the queue, another one may read there, and
// a third one may do neither. Each hands over at once, and only the first one has marked keys.
func TestADirectHandoffWithRoles(t *testing.T) {
	w := newAuthWorld(t)
	w.shell(`export ETCDCTL_USER=root:secret
etcdctl role add one
etcdctl role grant-permission one readwrite --prefix=true orders/42/
etcdctl role add reader
etcdctl role grant-permission reader readwrite --prefix=true orders/42/
etcdctl role grant-permission reader read orders/42 orders/420
etcdctl user add one:secret
etcdctl user grant-role one one
etcdctl user add reader:secret
etcdctl user grant-role reader reader`)
	var all []*etcdlock.Mutex
	for _, user := range []string{"orders", "one", "orders", "reader", "orders", "orders", "reader", "one"} {
		c := w.as(user)
		testhook.For(c, testhook.Hooks{Crowd: -1})
		all = append(all, etcdlock.NewMutex(w.session(c, etcdlock.WithOwner(user)), "orders/42"))
	}
	for range 2 { // the second time after the inboxes have gone
		held, err := all[0].Lock(w.ctx())
		require.NoError(t, err)
		granted := make(chan *etcdlock.Lock, len(all))
		for i, m := range all[1:] {
			go func() {
				if l, err := m.Lock(w.ctx()); err == nil {
					granted <- l
				}
			}()
			w.waitForKeys("orders/42", i+2)
		}
		for range all[1:] {
			began := time.Now()
			require.NoError(t, held.Unlock(w.ctx()))
			held = <-granted
			require.Less(t, time.Since(began), 700*time.Millisecond, held.Key())
			queue, err := all[0].Queue(w.ctx())
			require.NoError(t, err)
			require.Equal(t, queue[0].Owner == "orders", strings.Contains(queue[0].Key, ".1000000000"), "%+v", queue[0])
		}
		require.NoError(t, held.Unlock(w.ctx()))
		time.Sleep(1500 * time.Millisecond)
	}
}
