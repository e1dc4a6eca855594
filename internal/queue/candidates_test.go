package queue

import (
	"testing"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestSuccessorKeysAndPrioritiesAreReadFromKeys(t *testing.T) {
	kv := func(rev int64, key string) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), CreateRevision: rev}
	}
	names := func(rev int64, key, value string) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), CreateRevision: 1, ModRevision: rev, Value: []byte(value)}
	}
	for name, c := range map[string]struct {
		queue, successors []*mvccpb.KeyValue
		want              []string
	}{
		"priorities": {
			[]*mvccpb.KeyValue{kv(1, "e/1"), kv(2, "e/2"), kv(3, "e/3.0p1"), kv(4, "e/4.0p5")}, nil,
			[]string{"e/1", "e/4.0p5", "e/3.0p1", "e/2"}},
		"successors": {
			[]*mvccpb.KeyValue{kv(1, "e/1"), kv(2, "e/2.0p5"), kv(3, "e/3"), kv(4, "e/4")},
			[]*mvccpb.KeyValue{names(6, "e\x00next/3", `{"next":"3","rev":3}`), names(5, "e\x00next/4", `{"next":"4","rev":4}`)},
			[]string{"e/1", "e/4", "e/3", "e/2.0p5"}},
		"successors that have gone, or come again": {
			[]*mvccpb.KeyValue{kv(2, "e/2"), kv(3, "e/3"), kv(4, "e/4")},
			[]*mvccpb.KeyValue{names(1, "e\x00next/9", `{"next":"9","rev":9}`), names(5, "e\x00next/4", `{"next":"4","rev":1}`), names(6, "e\x00next/5", "?")},
			[]string{"e/2", "e/3", "e/4"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, kv := range (&Queue{line: line{from: "e/"}}).rank(c.queue, c.successors) {
				got = append(got, string(kv.Key))
			}
			require.Equal(t, c.want, got)
		})
	}
}
