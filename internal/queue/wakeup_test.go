package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Entries that come, leave and stand at one instant: what the others then learn, and how soon. A name with
// a point is a session without marks: an older version, or another client.
func TestNoWakeUpIsLost(t *testing.T) {
	const settled = settleLast + time.Second
	for name, c := range map[string]struct {
		queue []string
		do    func(r *rig, all map[string]*party)
		next  string // the session that holds then
		soon  time.Duration
	}{
		"behind an entry that is not marked": {[]string{".a", "b", "c"}, func(_ *rig, all map[string]*party) { all[".a"].leave() }, "b", soon},
		"an entry that is not marked is between": {[]string{"a", ".b", "c"}, func(_ *rig, all map[string]*party) {
			all["a"].leave()
			all[".b"].holds(soon)
			all["c"].waits()
			all[".b"].leave()
		}, "c", soon},
		"many that are not marked are between": {append(append([]string{"a"}, points(longestList+3)...), "c"), func(_ *rig, all map[string]*party) {
			all["a"].leave()
			for _, name := range points(longestList + 3) {
				all[name].holds(soon)
				all[name].leave()
			}
		}, "c", soon},
		"a whole list of those that are not marked is between": {append(append([]string{"a"}, points(longestList)...), "c"), func(_ *rig, all map[string]*party) {
			all["a"].leave()
			for _, name := range points(longestList) {
				all[name].holds(soon)
				all["c"].waits()
				all[name].leave()
			}
		}, "c", soon},
		"the first of those that are marked is deleted": {[]string{".a", "b"}, func(r *rig, all map[string]*party) {
			time.Sleep(settleWait - 100*time.Millisecond) // it watches its own key soon, and the next one sleeps
			for name, p := range r.lineUp("c") {
				all[name] = p
			}
			r.DeleteKey(all["b"].entry.Key)
			require.ErrorIs(r, (<-all["b"].got).err, lockerr.ErrEvicted)
			all[".a"].leave()
		}, "c", soon},
		"a wait is cancelled": {[]string{"a", "b", "c"}, func(_ *rig, all map[string]*party) {
			all["b"].cancel()
			<-all["b"].got
			all["b"].leave()
			all["c"].waits()
			all["a"].leave()
		}, "c", soon},
		"the first of those that are marked is cancelled": {[]string{".a", "b", "c"}, func(_ *rig, all map[string]*party) {
			all["b"].cancel()
			<-all["b"].got
			all["b"].leave()
			all[".a"].leave()
		}, "c", soon},
		"a wait is cancelled while its turn comes": {[]string{"a", "b", "c"}, func(_ *rig, all map[string]*party) {
			all["b"].cancel()
			<-all["b"].got
			all["a"].leave()
			all["b"].leave()
		}, "c", soon},
		"an entry comes while the holder leaves": {[]string{"a"}, func(r *rig, all map[string]*party) {
			list := r.on("a", simetcd.Range)
			go func() {
				<-list
				for name, p := range r.lineUp("b") {
					all[name] = p
				}
			}()
			all["a"].leave()
			time.Sleep(50 * time.Millisecond)
		}, "b", soon},
		"the next entry is deleted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			list := r.on("a", simetcd.Range)
			go func() {
				<-list
				r.DeleteKey(all["b"].entry.Key)
			}()
			all["a"].leave()
		}, "c", soon},
		"an entry of the list that was passed on is deleted": {[]string{"a", "b", "c", "d"}, func(r *rig, all map[string]*party) {
			all["a"].leave()
			all["b"].holds(soon)
			r.DeleteKey(all["c"].entry.Key)
			all["b"].leave()
		}, "d", soon},
		"the holder is deleted, and others are between": {append(append([]string{"a"}, points(longestList+3)...), "c"), func(r *rig, all map[string]*party) {
			r.DeleteKey(all["a"].entry.Key)
			require.ErrorIs(r, all["a"].Leave(r.ctx, all["a"].entry, false), lockerr.ErrEvicted)
			for _, name := range points(longestList + 3) {
				all[name].holds(soon)
				all[name].leave()
			}
		}, "c", soon},
		"the holder is deleted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.DeleteKey(all["a"].entry.Key)
			require.ErrorIs(r, all["a"].Leave(r.ctx, all["a"].entry, false), lockerr.ErrEvicted)
		}, "b", soon},
		"an entry that waits is deleted, and then the holder": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.DeleteKey(all["b"].entry.Key)
			r.DeleteKey(all["a"].entry.Key)
			require.ErrorIs(r, (<-all["b"].got).err, lockerr.ErrEvicted)
		}, "c", settled},
		"the lease of the holder ends": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) { r.RevokeLease(all["a"].lease) }, "b", settled},
		"an inbox is deleted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.DeleteKey(wire.InboxKey("q", all["b"].lease))
			all["a"].leave()
		}, "b", soon},
		"the watches break": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.CutWatches()
			all["a"].leave()
		}, "b", settleFirst / 2},
		"the watches break, and their past is compacted": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.CutWatches()
			all["a"].leave()
			r.Compact(r.Revision())
		}, "b", settleFirst / 2},
		"the answer to the release is lost": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.loses("a", simetcd.Txn)
			all["a"].leave()
		}, "b", soon},
		"the holder is swept": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			swept := []Swept{{Name: "q", Key: all["a"].entry.Key}}
			require.NoError(r, (&Queues{all["c"].shared}).Sweep(r.ctx, swept))
			require.True(r, swept[0].Deleted)
			require.Empty(r, r.Keys(wire.InboxKey("q", all["a"].lease)))
		}, "b", soon},
		"a role has changed": {[]string{"a", "b", "c"}, func(r *rig, all map[string]*party) {
			r.Intercept(func(c simetcd.Call) simetcd.Action {
				if c.Client == "a" && writesInbox(c) {
					return simetcd.Action{Err: rpctypes.ErrGRPCPermissionDenied}
				}
				return simetcd.Action{}
			})
			all["a"].leave()
		}, "b", settled},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(r *rig) {
				all := r.lineUp(c.queue...)
				token := all[c.queue[0]].holds(soon)
				c.do(r, all)
				synctest.Wait()
				r.Intercept(nil)
				next := all[c.next]
				require.Greater(r, next.holds(c.soon), token)
				for _, kv := range r.Keys("q/") {
					require.GreaterOrEqual(r, kv.CreateRevision, next.entry.CreateRevision, "an older one stands")
				}
				next.leave()
				rest := false
				for _, name := range c.queue {
					if rest {
						all[name].holds(settled)
						all[name].leave()
					}
					rest = rest || name == c.next
				}
				require.Empty(r, r.Keys("q/"))
			})
		})
	}
}
