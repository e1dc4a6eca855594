package simetcd_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// show writes keys as key=value@create/mod/version.
func show(kvs []*mvccpb.KeyValue) (out []string) {
	for _, kv := range kvs {
		out = append(out, fmt.Sprintf("%s=%s@%d/%d/%d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version))
	}
	return out
}

func TestRevisionsAreThoseOfEtcd(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		require.EqualValues(t, 1, srv.Revision(), "of an empty etcd")
		for i, step := range []struct {
			what string
			op   clientv3.Op
			rev  int64
			keys []string
		}{
			{"a put creates", clientv3.OpPut("k", "1"), 2, []string{"k=1@2/2/1"}},
			{"a put changes", clientv3.OpPut("k", "2"), 3, []string{"k=2@2/3/2"}},
			{"a delete deletes", clientv3.OpDelete("k"), 4, nil},
			{"a delete of nothing takes no revision", clientv3.OpDelete("k"), 4, nil},
			{"a key that returns is new", clientv3.OpPut("k", "3"), 5, []string{"k=3@5/5/1"}},
			{
				"a transaction has one revision",
				clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("l", "4"), clientv3.OpPut("k", "5")}, nil), 6,
				[]string{"k=5@5/6/2", "l=4@6/6/1"},
			},
			{
				"a failed compare without an else takes none",
				clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version("k"), "=", 9)}, []clientv3.Op{clientv3.OpPut("k", "6")}, nil), 6,
				[]string{"k=5@5/6/2", "l=4@6/6/1"},
			},
			{"a range deletion has one revision", clientv3.OpDelete("", clientv3.WithPrefix()), 7, nil},
		} {
			_, err := c.Do(ctx, step.op)
			require.NoError(t, err, "%d: %s", i, step.what)
			require.Equal(t, step.rev, srv.Revision(), step.what)
			require.Equal(t, step.keys, show(srv.Keys("")), step.what)
		}
	})
}

func TestComparesAreThoseOfEtcd(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		id := srv.GrantLease(1e12)
		srv.PutKey("a/1", "x", 0)  // created 2
		srv.PutKey("a/2", "y", id) // created 3
		srv.PutKey("a/1", "z", 0)  // modified 4, version 2
		for _, tc := range []struct {
			cmp  clientv3.Cmp
			want bool
		}{
			{clientv3.Compare(clientv3.Version("a/1"), "=", 2), true},
			{clientv3.Compare(clientv3.Version("a/1"), ">", 2), false},
			{clientv3.Compare(clientv3.Version("no"), "=", 0), true},
			{clientv3.Compare(clientv3.CreateRevision("a/2"), "=", 3), true},
			{clientv3.Compare(clientv3.CreateRevision("no"), "=", 0), true},
			{clientv3.Compare(clientv3.CreateRevision("no"), "!=", 0), false},
			{clientv3.Compare(clientv3.ModRevision("a/1"), "<", 5), true},
			{clientv3.Compare(clientv3.ModRevision("a/1"), "!=", 4), false},
			{clientv3.Compare(clientv3.Value("a/1"), "=", "z"), true},
			{clientv3.Compare(clientv3.Value("a/1"), ">", "y"), true},
			{clientv3.Compare(clientv3.Value("no"), "=", ""), false},
			{clientv3.Compare(clientv3.Value("no"), "!=", "x"), false},
			{clientv3.Compare(clientv3.LeaseValue("a/2"), "=", id), true},
			{clientv3.Compare(clientv3.LeaseValue("a/1"), "=", 0), true},
			// Over a range: true for all keys of it.
			{clientv3.Compare(clientv3.CreateRevision("a/"), "<", 4).WithPrefix(), true},
			{clientv3.Compare(clientv3.CreateRevision("a/"), "<", 3).WithPrefix(), false},
			{clientv3.Compare(clientv3.CreateRevision("a/1"), ">", 1).WithRange("\x00"), true},
			// Over a range without keys: as for a key of zeroes.
			{clientv3.Compare(clientv3.CreateRevision("b/"), "=", 0).WithPrefix(), true},
			{clientv3.Compare(clientv3.CreateRevision("b/"), ">", 0).WithPrefix(), false},
			{clientv3.Compare(clientv3.Value("b/"), "=", "").WithPrefix(), false},
		} {
			resp, err := c.Txn(ctx).If(tc.cmp).Commit()
			require.NoError(t, err)
			require.Equal(t, tc.want, resp.Succeeded, "%v", tc.cmp)
		}
		require.Equal(t, c.Count(), c.Count(simetcd.Txn, simetcd.TxnReadOnly))
		require.Zero(t, c.Count(simetcd.Txn))
	})
}

func TestRangesAreThoseOfEtcd(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		srv.PutKey("a", "3", 0) // 2
		srv.PutKey("b", "1", 0) // 3
		srv.PutKey("c", "2", 0) // 4
		srv.PutKey("a", "4", 0) // 5
		srv.DeleteKey("b")      // 6
		srv.PutKey("b", "0", 0) // 7
		all := clientv3.WithFromKey()
		for _, tc := range []struct {
			what  string
			key   string
			opts  []clientv3.OpOption
			want  string
			count int64
			more  bool
		}{
			{"one key", "a", nil, "a", 1, false},
			{"from a key on", "b", []clientv3.OpOption{all}, "bc", 2, false},
			{"half open", "a", []clientv3.OpOption{clientv3.WithRange("c")}, "ab", 2, false},
			{"limit", "a", []clientv3.OpOption{all, clientv3.WithLimit(2)}, "ab", 3, true},
			{"limit not reached", "a", []clientv3.OpOption{all, clientv3.WithLimit(3)}, "abc", 3, false},
			{"limit after sort", "a", []clientv3.OpOption{all, clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend)}, "b", 3, true},
			{"limit after filter", "a", []clientv3.OpOption{all, clientv3.WithLimit(1), clientv3.WithMinModRev(6)}, "b", 3, false},
			{"by key down", "a", []clientv3.OpOption{all, clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "cba", 3, false},
			{"by create", "a", []clientv3.OpOption{all, clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}, "acb", 3, false},
			{"by mod", "a", []clientv3.OpOption{all, clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortNone)}, "cab", 3, false},
			{"by version", "a", []clientv3.OpOption{all, clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend)}, "abc", 3, false},
			{"by value", "a", []clientv3.OpOption{all, clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "bca", 3, false},
			{"count only", "a", []clientv3.OpOption{all, clientv3.WithCountOnly()}, "", 3, false},
			{"older than the last create", "a", []clientv3.OpOption{all, clientv3.WithMaxCreateRev(6), clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend)}, "c", 3, true},
			{"max mod", "a", []clientv3.OpOption{all, clientv3.WithMaxModRev(5)}, "ac", 3, false},
			{"min create", "a", []clientv3.OpOption{all, clientv3.WithMinCreateRev(4)}, "bc", 3, false},
			{"in the past", "a", []clientv3.OpOption{all, clientv3.WithRev(6)}, "ac", 2, false},
			{"further in the past", "a", []clientv3.OpOption{all, clientv3.WithRev(3)}, "ab", 2, false},
		} {
			resp, err := c.Get(ctx, tc.key, tc.opts...)
			require.NoError(t, err, tc.what)
			got := ""
			for _, kv := range resp.Kvs {
				got += string(kv.Key)
			}
			require.Equal(t, tc.want, got, tc.what)
			require.Equal(t, tc.count, resp.Count, tc.what)
			require.Equal(t, tc.more, resp.More, tc.what)
			require.EqualValues(t, 7, resp.Header.Revision, tc.what)
		}
		resp, err := c.Get(ctx, "a", clientv3.WithKeysOnly())
		require.NoError(t, err)
		require.Equal(t, []string{"a=@2/5/2"}, show(resp.Kvs))

		_, err = c.Get(ctx, "a", clientv3.WithRev(8))
		require.ErrorIs(t, err, rpctypes.ErrFutureRev)
		srv.Compact(6)
		_, err = c.Get(ctx, "a", clientv3.WithRev(5))
		require.ErrorIs(t, err, rpctypes.ErrCompacted)
		resp, err = c.Get(ctx, "a", all, clientv3.WithRev(6))
		require.NoError(t, err)
		require.Equal(t, []string{"a=4@2/5/2", "c=2@4/4/1"}, show(resp.Kvs))
	})
}

func TestWhatEtcdRefusesIsRefused(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		put := clientv3.OpPut
		tooMany := make([]clientv3.Op, 129)
		for i := range tooMany {
			tooMany[i] = put(fmt.Sprint(i), "")
		}
		for _, tc := range []struct {
			what string
			op   clientv3.Op
			want error
		}{
			{"two puts of a key", clientv3.OpTxn(nil, []clientv3.Op{put("k", "1"), put("k", "2")}, nil), rpctypes.ErrDuplicateKey},
			{"also in the branch not taken", clientv3.OpTxn(nil, nil, []clientv3.Op{put("k", "1"), put("k", "2")}), rpctypes.ErrDuplicateKey},
			{"put and delete", clientv3.OpTxn(nil, []clientv3.Op{put("k", "1"), clientv3.OpDelete("k", clientv3.WithPrefix())}, nil), rpctypes.ErrDuplicateKey},
			{"put inside and outside", clientv3.OpTxn(nil, []clientv3.Op{put("k", "1"), clientv3.OpTxn(nil, nil, []clientv3.Op{put("k", "2")})}, nil), rpctypes.ErrDuplicateKey},
			{"puts in branches that exclude each other", clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{put("n", "1")}, []clientv3.Op{put("n", "2")})}, nil), nil},
			{"no key", put("", "1"), rpctypes.ErrEmptyKey},
			{"an unknown lease", put("k", "1", clientv3.WithLease(7)), rpctypes.ErrLeaseNotFound},
			{"an unknown lease in a transaction", clientv3.OpTxn(nil, []clientv3.Op{put("x", "1"), put("k", "1", clientv3.WithLease(7))}, nil), rpctypes.ErrLeaseNotFound},
			{"the value of nothing", put("k", "", clientv3.WithIgnoreValue()), rpctypes.ErrKeyNotFound},
			{"129 operations", clientv3.OpTxn(nil, tooMany, nil), rpctypes.ErrTooManyOps},
			{"128 operations", clientv3.OpTxn(nil, tooMany[1:], nil), nil},
		} {
			before := srv.Revision()
			_, err := c.Do(ctx, tc.op)
			if tc.want == nil {
				require.NoError(t, err, tc.what)
				continue
			}
			require.ErrorIs(t, err, tc.want, tc.what)
			require.Equal(t, before, srv.Revision(), tc.what)
		}
		require.Nil(t, srv.Get("k"))
		require.Nil(t, srv.Get("x"))
	})
}

func TestATransactionReadsItsOwnWrites(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		srv.PutKey("k/1", "old", 0)
		resp, err := c.Txn(ctx).Then(
			clientv3.OpGet("k/", clientv3.WithPrefix()),
			clientv3.OpPut("k/2", "new"),
			clientv3.OpGet("k/", clientv3.WithPrefix()),
			// A nested compare sees the state before the transaction.
			clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version("k/2"), "=", 0)},
				[]clientv3.Op{clientv3.OpDelete("k/1", clientv3.WithPrevKV())}, nil),
			clientv3.OpGet("k/", clientv3.WithPrefix()),
		).Commit()
		require.NoError(t, err)
		require.EqualValues(t, 3, resp.Header.Revision)
		at := func(i int) *pb.RangeResponse { return resp.Responses[i].GetResponseRange() }
		require.Equal(t, []string{"k/1=old@2/2/1"}, show(at(0).Kvs))
		require.EqualValues(t, 2, at(0).Header.Revision)
		require.Equal(t, []string{"k/1=old@2/2/1", "k/2=new@3/3/1"}, show(at(2).Kvs))
		require.True(t, resp.Responses[3].GetResponseTxn().Succeeded)
		require.Equal(t, []string{"k/2=new@3/3/1"}, show(at(4).Kvs))
	})
}

func TestAPutKeepsAndReportsWhatItIsAskedTo(t *testing.T) {
	simulate(t, simetcd.Config{}, func(t *testing.T, srv *simetcd.Server) {
		c := srv.Client("a")
		one, two := srv.GrantLease(1e12), srv.GrantLease(1e12)
		keys := func(id clientv3.LeaseID) int {
			resp, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
			require.NoError(t, err)
			return len(resp.Keys)
		}
		put := func(value string, opts ...clientv3.OpOption) *clientv3.PutResponse {
			resp, err := c.Put(ctx, "k", value, opts...)
			require.NoError(t, err)
			return resp
		}
		require.Nil(t, put("1", clientv3.WithLease(one), clientv3.WithPrevKV()).PrevKv)
		require.Equal(t, 1, keys(one))
		require.Equal(t, []string{"k=1@2/2/1"}, show([]*mvccpb.KeyValue{put("2", clientv3.WithLease(two), clientv3.WithPrevKV()).PrevKv}))
		require.Equal(t, 0, keys(one))
		require.Equal(t, 1, keys(two))
		put("3", clientv3.WithIgnoreLease())
		require.EqualValues(t, two, srv.Get("k").Lease)
		put("", clientv3.WithIgnoreValue(), clientv3.WithLease(one))
		require.Equal(t, "3", string(srv.Get("k").Value))
		require.EqualValues(t, one, srv.Get("k").Lease)
		put("4")
		require.Equal(t, 0, keys(one)+keys(two))
		srv.RevokeLease(one)
		require.NotNil(t, srv.Get("k"), "it has no lease any more")
	})
}
