package queue

import (
	"testing"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestCandidatesAreRankedAsTheyAreToLead(t *testing.T) {
	kv := func(rev int64, key, value string) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), CreateRevision: rev, Value: []byte(value)}
	}
	for name, c := range map[string]struct {
		queue []*mvccpb.KeyValue
		want  []string
	}{
		"nobody": {nil, nil},
		"by age": {[]*mvccpb.KeyValue{kv(1, "e/1", ""), kv(2, "e/2", ""), kv(3, "e/3", "")}, []string{"e/1", "e/2", "e/3"}},
		"a leader is not disturbed by a priority": {
			[]*mvccpb.KeyValue{kv(1, "e/1", ""), kv(2, "e/2", ""), kv(3, "e/3.0p1", ""), kv(4, "e/4.0p5", ""), kv(5, "e/5.0p5", "")},
			[]string{"e/1", "e/4.0p5", "e/5.0p5", "e/3.0p1", "e/2"}},
		"marks come first, the oldest before the others": {
			[]*mvccpb.KeyValue{kv(1, "e/1", ""), kv(2, "e/2.0p5", ""), kv(3, "e/3", ""), kv(4, "e/4", ""),
				kv(5, "e/4.next", `{"next":"4","rev":4}`), kv(6, "e/3.next", `{"next":"3","rev":3}`)},
			[]string{"e/1", "e/4", "e/3", "e/2.0p5"}},
		"the mark of somebody who has gone counts for nothing": {
			[]*mvccpb.KeyValue{kv(1, "e/9.next", `{"next":"9","rev":9}`), kv(2, "e/2", ""), kv(3, "e/3", ""), kv(4, "e/4", ""),
				kv(5, "e/4.next", `{"next":"4","rev":1}`)},
			[]string{"e/2", "e/3", "e/4"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, kv := range rank(c.queue) {
				got = append(got, string(kv.Key))
			}
			require.Equal(t, c.want, got)
		})
	}
}
