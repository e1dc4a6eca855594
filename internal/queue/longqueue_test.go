package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// inLongQueue runs a test for an entry behind n older entries of another lease.
func inLongQueue(t *testing.T, n int, test func(r *rig, q *Queue, e *Entry, older clientv3.LeaseID)) {
	simulate(t, func(r *rig) {
		older := r.GrantLease(time.Hour)
		for i := range n {
			r.PutKey(fmt.Sprintf("q/%x", 0x1000+i), "", older)
		}
		q := r.queue("a")
		test(r, q, r.enter(q), older)
	})
}

// trap A6: the read at the handover reads our own key, too.
func TestInALongQueueAWaiterWhoseKeyIsGoneIsNeverGranted(t *testing.T) {
	for _, n := range []int{ShortQueue + 4, peek + 1} {
		inLongQueue(t, n, func(r *rig, q *Queue, e *Entry, older clientv3.LeaseID) {
			got := r.await(q, e)
			time.Sleep(100 * time.Millisecond)
			r.MissDelete(e.Key)
			r.DeleteKey(e.Key)
			r.RevokeLease(older)
			require.ErrorIs(r, (<-got).err, lockerr.ErrEvicted)
		})
	}
}

func TestInALongQueueTheOneAheadIsWatchedAndOneReadFollows(t *testing.T) {
	for _, n := range []int{ShortQueue + 4, peek + 1} {
		inLongQueue(t, n, func(r *rig, q *Queue, e *Entry, older clientv3.LeaseID) {
			c := r.Client("a")
			c.ResetCounts()
			got := r.await(q, e)
			time.Sleep(100 * time.Millisecond)
			require.Equal(r, 1, c.Count(simetcd.Watch))
			if n < peek {
				require.Equal(r, 1, c.Count(simetcd.TxnReadOnly, simetcd.Range), "the next one ahead was known from entering")
			} else {
				require.Equal(r, 2, c.Count(simetcd.TxnReadOnly, simetcd.Range))
			}
			c.ResetCounts()
			for i := range n - 1 { // entries further ahead do not matter
				r.DeleteKey(fmt.Sprintf("q/%x", 0x1000+i))
			}
			time.Sleep(100 * time.Millisecond)
			require.Empty(r, got)
			require.Zero(r, c.Count(simetcd.TxnReadOnly, simetcd.Range), "woken by one that is not the next ahead")
			r.RevokeLease(older)
			require.NoError(r, (<-got).err)
			require.Equal(r, 1, c.Count(simetcd.TxnReadOnly, simetcd.Range))
		})
	}
}

// A wait in a queue that becomes too long for a cache continues behind its predecessor, and keeps its place.
func TestAWaitInAQueueThatBecomesTooLongForACacheKeepsItsPlace(t *testing.T) {
	inLongQueue(t, 2, func(r *rig, q *Queue, e *Entry, old clientv3.LeaseID) {
		got := r.await(q, e)
		time.Sleep(100 * time.Millisecond)
		younger := r.GrantLease(time.Hour)
		for i := range ShortQueue + 9 {
			r.PutKey(fmt.Sprintf("q/%x", 0x2000+i), "", younger)
			time.Sleep(10 * time.Millisecond)
		}
		require.Empty(r, got)
		r.RevokeLease(old)
		granted := <-got
		require.NoError(r, granted.err)
		require.Greater(r, granted.rev, e.CreateRevision)
	})
}
