package etcdlock

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTheQueueTellsWhoHoldsAndWhoWaitsInOrder(t *testing.T) {
	simulate(t, func(w *world) {
		sa, sb := w.session("a", WithOwner("worker-a")), w.session("b")
		m := NewMutex(sa, "m")
		entries, err := m.Queue(w.ctx)
		require.NoError(w, err)
		require.Empty(w, entries)

		began := time.Now()
		held := w.lock(m)
		wait := start(w, NewMutex(sb, "m", WithOwner("a job of b")).Lock)
		w.pass(time.Second)
		w.PutKey("m/not/ours", "\xff{", 0)
		w.PutKey("m2/other", "", 0)
		entries, err = m.Queue(w.ctx)
		require.NoError(w, err)
		require.Len(w, entries, 3)

		first := entries[0]
		require.Equal(w, held.Key(), first.Key)
		require.Equal(w, sa.Lease(), first.Lease)
		require.Equal(w, held.Token(), first.CreateRevision)
		require.Equal(w, "worker-a", first.Owner)
		require.Equal(w, os.Getpid(), first.PID)
		host, _ := os.Hostname()
		require.Equal(w, host, first.Host)
		require.WithinDuration(w, began, first.Since, time.Second)
		require.JSONEq(w, string(w.Get(held.Key()).Value), string(first.Value))

		require.Equal(w, sb.Lease(), entries[1].Lease)
		require.Equal(w, "a job of b", entries[1].Owner)
		require.Equal(w, QueueEntry{Mode: ModeForeign, Key: "m/not/ours", Lease: clientv3.NoLease, CreateRevision: entries[2].CreateRevision, Value: []byte("\xff{")}, entries[2])

		w.DeleteKey("m/not/ours")
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, wait.get().Unlock(w.ctx))
	})
}

func TestWithoutAnOwnerTheProgramIsNamed(t *testing.T) {
	simulate(t, func(w *world) {
		s, err := NewSession(w.ctx, w.Client("a").Client)
		require.NoError(w, err)
		w.sessions = append(w.sessions, s)
		w.lock(NewMutex(s, "m"))
		entries, err := NewMutex(s, "m").Queue(w.ctx)
		require.NoError(w, err)
		require.Equal(w, filepath.Base(os.Args[0]), entries[0].Owner)
	})
}

// trap A15
func TestAStrayKeyIsWaitedForAndNamed(t *testing.T) {
	for what, lease := range map[string]time.Duration{"without a lease": 0, "with a lease": time.Minute} {
		t.Run(what, func(t *testing.T) {
			simulate(t, func(w *world) {
				core, logs := logged.New(zapcore.WarnLevel)
				m := NewMutex(w.session("a", WithLogger(zap.New(core))), "m")
				id := clientv3.NoLease
				if lease > 0 {
					id = w.GrantLease(lease)
				}
				w.PutKey("m/stray", "", id)
				_, err := m.TryLock(w.ctx)
				require.ErrorIs(w, err, ErrLocked)
				wait := start(w, m.Lock)
				w.pass(30 * time.Second)
				wait.isWaiting()
				entries, err := m.Queue(w.ctx)
				require.NoError(w, err)
				require.Equal(w, "m/stray", entries[0].Key)
				require.Equal(w, id, entries[0].Lease)

				named := logs.FilterField(zap.ByteString("key", []byte("m/stray"))).Len()
				if lease == 0 {
					require.Equal(w, 1, named, "once, not with each look")
					w.DeleteKey("m/stray")
				} else {
					require.Zero(w, named, "it will go by itself")
				}
				require.NoError(w, wait.get().Unlock(w.ctx))
				w.allGone()
			})
		})
	}
}

// Whatever lies older under the name is waited for, or is an error that says so;
// nothing is ever granted past it, and nothing panics.
func TestForeignKeysWithHostileNamesAreNeverPassed(t *testing.T) {
	for key, nested := range map[string]bool{
		"m/":                     false,
		"m/\x00":                 false,
		"m/\xff\xff":             false,
		"m/%s%d\n\"":             false,
		"m/0":                    false,
		"m/-1":                   false,
		"m/ffffffffffffffffffff": false,
		"m/DEADBEEF":             false,
		"m//":                    true,
		"m//1":                   true,
		"m/n/1":                  true,
		"m/n/":                   true,
	} {
		simulate(t, func(w *world) {
			s := w.session("a")
			m := NewMutex(s, "m")
			w.PutKey(key, "\x00\xff", 0)
			_, err := m.TryLock(w.ctx)
			wait := start(w, m.Lock)
			w.pass(time.Second)
			if nested {
				require.ErrorIs(w, err, ErrNestedName, "%q", key)
				wait.fails(ErrNestedName)
				require.Len(w, w.Keys(""), 1)
				w.DeleteKey(key)
				require.NoError(w, w.lock(m).Unlock(w.ctx))
				return
			}
			require.ErrorIs(w, err, ErrLocked, "%q", key)
			wait.isWaiting()
			_, err = m.Queue(w.ctx)
			require.NoError(w, err)
			w.DeleteKey(key)
			require.NoError(w, wait.get().Unlock(w.ctx), "%q", key)
			w.allGone()
		})
	}
}

// Keys that only look alike are no entries.
func TestKeysOutsideTheNameAreNotWaitedFor(t *testing.T) {
	simulate(t, func(w *world) {
		for _, key := range []string{"m", "m0", "m.", "m-/1", "mm/1", "l/m/1", "m0/1", "M/1"} {
			w.PutKey(key, "", 0)
		}
		l, err := NewMutex(w.session("a"), "m").TryLock(w.ctx)
		require.NoError(w, err)
		require.NoError(w, l.Unlock(w.ctx))
	})
}

// Younger strays do not harm the holder; those behind it wait for them.
func TestAYoungerStrayDoesNotPush(t *testing.T) {
	simulate(t, func(w *world) {
		held := w.lock(NewMutex(w.session("a"), "m"))
		b := start(w, NewMutex(w.session("b"), "m").Lock)
		w.pass(time.Second)
		w.PutKey("m/stray", "", 0)
		require.NoError(w, held.Unlock(w.ctx))
		require.NoError(w, b.get().Unlock(w.ctx))
		_, err := NewMutex(w.sessions[0], "m").TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
	})
}
