package etcdkv

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// desk is an etcd that answers transactions when a test says so, and a writer on it.
type desk struct {
	*testing.T
	pb.KVClient
	writer *Writer
	life   context.Context

	mu    sync.Mutex
	asked []*asked
}

type asked struct {
	*pb.TxnRequest
	answer chan error
}

func (d *desk) Txn(ctx context.Context, req *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	a := &asked{req, make(chan error, 1)}
	d.mu.Lock()
	d.asked = append(d.asked, a)
	d.mu.Unlock()
	select {
	case err := <-a.answer:
		resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: true}
		for _, op := range req.Success {
			done := &pb.ResponseOp{}
			if op.GetRequestTxn() != nil {
				done.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: true}}
			}
			resp.Responses = append(resp.Responses, done)
		}
		return resp, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func atDesk(t *testing.T, slots int, test func(d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		life, cancel := context.WithCancel(t.Context())
		d := &desk{T: t, life: life}
		d.writer = NewWriter(WriterConfig{
			Life: life, KV: clientv3.NewKVFromKVClient(d, nil), Slots: slots,
			Spawn: func(f func()) bool { go f(); return life.Err() == nil },
		})
		test(d)
		cancel()
		synctest.Wait()
	})
}

// put writes a key of a name in the background, and returns once the write waits for its answer or
// for a slot.
func (d *desk) put(name string, more ...func(*Txn)) (result chan error, cancel func()) {
	ctx, stop := context.WithCancel(d.Context())
	txn := Txn{Name: name, If: []clientv3.Cmp{Created(name, "", 0)}, Then: []clientv3.Op{clientv3.OpPut(name, "")}}
	for _, f := range more {
		f(&txn)
	}
	result = make(chan error, 1)
	go func() {
		defer stop()
		resp, err := d.writer.Commit(ctx, txn)
		if err == nil && !resp.Succeeded {
			err = fmt.Errorf("%s: not written", name)
		}
		result <- err
	}()
	synctest.Wait()
	return result, stop
}

// flies fails unless the transactions in flight are these, each as the keys that it puts.
func (d *desk) flies(want ...[]string) {
	d.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	var got [][]string
	for _, a := range d.asked {
		var keys []string
		for _, op := range a.Success {
			if part := op.GetRequestTxn(); part != nil {
				op = part.Success[0]
			}
			keys = append(keys, string(op.GetRequestPut().Key))
		}
		got = append(got, keys)
	}
	require.ElementsMatch(d, want, got)
}

// answers has etcd answer the oldest transaction in flight.
func (d *desk) answers(err error) {
	d.Helper()
	d.mu.Lock()
	require.NotEmpty(d, d.asked)
	first := d.asked[0]
	d.asked = d.asked[1:]
	d.mu.Unlock()
	first.answer <- err
	synctest.Wait()
}

func TestWritesShareABatchWhileAllSlotsAreTaken(t *testing.T) {
	atDesk(t, 2, func(d *desk) {
		var all []chan error
		for i := range 5 {
			w, _ := d.put(fmt.Sprint(i))
			all = append(all, w)
		}
		require.True(d, d.writer.Busy())
		d.flies([]string{"0"}, []string{"1"})
		d.answers(nil)
		d.flies([]string{"1"}, []string{"2", "3", "4"})
		d.answers(nil)
		require.False(d, d.writer.Busy())
		d.answers(nil)
		d.flies()
		for _, w := range all {
			require.NoError(d, <-w)
		}
	})
}

// The queue of a name is ordered by revision, and all keys of a batch have one revision.
func TestWritesOfOneNameNeverShareABatch(t *testing.T) {
	atDesk(t, 1, func(d *desk) {
		for _, name := range []string{"x", "a", "a", "b", "a", "c"} {
			d.put(name)
		}
		d.answers(nil)
		d.flies([]string{"a", "b", "c"})
		d.answers(nil)
		d.flies([]string{"a"})
		d.answers(nil)
		d.flies([]string{"a"})
		d.answers(nil)
		d.flies()
	})
}

func TestAWriteThatIsSentAloneSharesNoBatch(t *testing.T) {
	alone := func(txn *Txn) { txn.Alone = true }
	atDesk(t, 1, func(d *desk) {
		d.put("x")
		d.put("a")
		d.put("b", alone)
		d.put("c")
		d.put("d", alone)
		for _, want := range [][]string{{"x"}, {"a", "c"}, {"b"}, {"d"}} {
			d.flies(want)
			d.answers(nil)
		}
		d.flies()
	})
}

// A slot that is freed because its transaction is slow is not freed again by the answer.
func TestASlowTransactionFreesItsSlotOnce(t *testing.T) {
	atDesk(t, 1, func(d *desk) {
		d.put("hangs")
		time.Sleep(slowAfter + time.Millisecond)
		require.False(d, d.writer.Busy())
		d.put("a")
		d.put("b")
		d.put("c")
		d.flies([]string{"hangs"}, []string{"a"})
		d.answers(nil)
		d.flies([]string{"a"})
		d.answers(nil)
		d.flies([]string{"b", "c"})
		d.answers(nil)
	})
}

func TestAWriteWhoseCallerHasGoneIsNotSent(t *testing.T) {
	atDesk(t, 1, func(d *desk) {
		d.put("x")
		a, cancel := d.put("a")
		d.put("b")
		cancel()
		require.ErrorIs(d, <-a, context.Canceled)
		d.answers(nil)
		d.flies([]string{"b"})
		d.answers(nil)
	})
}

func TestTheWritesOfARefusedBatchAreSentAlone(t *testing.T) {
	atDesk(t, 2, func(d *desk) {
		d.put("x")
		d.put("y")
		a, _ := d.put("a")
		b, _ := d.put("b")
		d.answers(nil)
		d.answers(nil)
		d.flies([]string{"a", "b"})
		d.answers(rpctypes.ErrGRPCPermissionDenied)
		d.flies([]string{"a"}, []string{"b"})
		d.answers(rpctypes.ErrGRPCPermissionDenied)
		d.answers(nil)
		refused := 0
		for _, err := range []error{<-a, <-b} {
			if err != nil {
				require.ErrorIs(d, err, rpctypes.ErrPermissionDenied)
				refused++
			}
		}
		require.Equal(d, 1, refused)
	})
}

// The slot of a batch that hangs is freed. If the batch is then refused, no transaction comes back that
// would free a slot for its writes.
func TestABatchThatIsRefusedLateUsesAllFreeSlots(t *testing.T) {
	atDesk(t, 2, func(d *desk) {
		d.put("x")
		d.put("y")
		for _, name := range []string{"a", "b", "c"} {
			d.put(name)
		}
		d.answers(nil)
		d.answers(nil)
		d.flies([]string{"a", "b", "c"})
		time.Sleep(slowAfter + time.Millisecond)
		d.answers(rpctypes.ErrGRPCPermissionDenied)
		d.flies([]string{"a"}, []string{"b"})
		for range 3 {
			d.answers(nil)
		}
		d.flies()
	})
}

// A server may be set to a smaller limit of operations than the default.
func TestABatchThatIsTooLargeIsFollowedBySmallerOnes(t *testing.T) {
	atDesk(t, 1, func(d *desk) {
		names := func(n int) {
			for i := range n {
				d.put(fmt.Sprint(i))
			}
		}
		d.put("x")
		names(mostTogether + 1)
		d.answers(nil)
		d.answers(rpctypes.ErrGRPCTooManyOps)
		for range mostTogether + 1 {
			d.answers(nil)
		}
		d.flies()
		d.put("x")
		names(mostTogether)
		d.answers(nil)
		d.mu.Lock()
		require.Len(d, d.asked[0].Success, mostTogether/2)
		d.mu.Unlock()
		d.answers(nil)
		d.answers(nil)
		d.flies()
	})
}

// A batch whose answer is lost may have taken effect: each of its callers has to ask again.
func TestABatchWithoutAnAnswerFailsForAll(t *testing.T) {
	atDesk(t, 1, func(d *desk) {
		d.put("x")
		a, _ := d.put("a")
		b, _ := d.put("b")
		d.answers(nil)
		d.answers(rpctypes.ErrGRPCNoLeader)
		require.ErrorIs(d, <-a, rpctypes.ErrNoLeader)
		require.ErrorIs(d, <-b, rpctypes.ErrNoLeader)
		d.flies()
	})
}

func TestAfterItsLifeNothingThatWaitsIsSent(t *testing.T) {
	atDesk(t, 1, func(d *desk) {
		w := d.writer
		spawn := w.config.Spawn
		d.put("x")
		a, _ := d.put("a")
		w.config.Spawn = func(func()) bool { return false }
		d.answers(nil)
		require.ErrorIs(d, <-a, context.Canceled)
		require.False(d, w.Busy())
		w.config.Spawn = spawn
	})
}
