package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

// replaceData stops a member, and starts it on the same address with the data of a directory, or
// with none.
func (f *fixture) replaceData(backup string) {
	f.t.Helper()
	f.Stop(0)
	dir := f.Cluster.Members[0].DataDir
	require.NoError(f.t, os.RemoveAll(dir))
	if backup != "" {
		require.NoError(f.t, os.CopyFS(dir, os.DirFS(backup)))
	}
	f.Restart(0)
}

// backup copies the data of a member, which it stops for that.
func (f *fixture) backup() (dir string) {
	f.t.Helper()
	dir = filepath.Join(f.t.TempDir(), "backup")
	f.Stop(0)
	require.NoError(f.t, os.CopyFS(dir, os.DirFS(f.Cluster.Members[0].DataDir)))
	f.Restart(0)
	return dir
}

// report R5
func TestAnEtcdThatWasRolledBack(t *testing.T) {
	for _, kind := range []string{"empty", "restored"} {
		t.Run(kind, func(t *testing.T) {
			f := newFixtureOf(t, &integration.ClusterConfig{Size: 1})
			const ttl = 10 * time.Second
			f.Patience = ttl + 2*time.Second // for leases of the restored data, which no session knows
			a := f.Session(f.Client(), ttl)
			b := f.Session(f.Client(), ttl)
			o := f.Session(f.Client(), ttl)
			backup := ""
			if kind == "restored" {
				backup = f.backup()
			}
			for i := range 200 {
				f.Put("other", fmt.Sprint(i))
			}
			held, err := etcdlock.NewMutex(a, "lock").Lock(f.Ctx())
			require.NoError(t, err)
			waiting := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(b, "lock"))
			f.WaitForKeys("lock", 2)
			old, err := etcdlock.NewElection(a, "election").Campaign(f.Ctx(), "A")
			require.NoError(t, err)
			leaders := make(chan etcdlock.Leader, 100)
			go func() {
				for l, err := range etcdlock.NewElection(o, "election").Observe(f.Ctx()) {
					if err != nil {
						return
					}
					leaders <- l
				}
			}()
			require.Equal(t, "A", cluster.Receive(t, leaders, "the first leader").Value)
			time.Sleep(etcdlockSettles) // and the keys are watched

			f.replaceData(backup)
			back := time.Now()
			fresh := f.Session(f.Client(), ttl)
			now, err := etcdlock.NewMutex(fresh, "lock").Lock(f.Ctx())
			require.NoError(t, err)
			require.Less(t, now.Token(), held.Token())
			cluster.Receive(t, held.Done(), "the end of the hold")
			cluster.AssertLost(t, held.Err(), etcdlock.ErrRolledBack)
			cluster.AssertLost(t, cluster.Receive(t, waiting, "the end of the wait").Err, etcdlock.ErrRolledBack)
			require.Less(t, time.Since(back), 2*ttl)

			cluster.Receive(t, old.Done(), "the end of the term")
			term, err := etcdlock.NewElection(fresh, "election").Campaign(f.Ctx(), "B")
			require.NoError(t, err)
			for l := cluster.Receive(t, leaders, "another leader"); l.Value != "B"; l = cluster.Receive(t, leaders, "the new leader") {
				require.True(t, l.Vacant(), "%v", l)
			}
			require.Less(t, term.Token(), old.Token())

			next := cluster.LockInBackground(f.Ctx(), etcdlock.NewMutex(a, "lock"))
			cluster.StillWaiting(t, next, 100*time.Millisecond)
			require.NoError(t, now.Err())
			cluster.Release(t, now)
			cluster.Release(t, cluster.Granted(t, next).Handle)
		})
	}
}

// etcdlockSettles is longer than a hold lasts before its key is watched.
const etcdlockSettles = 500 * time.Millisecond
