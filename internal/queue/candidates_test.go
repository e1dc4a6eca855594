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
	mark := func(rev int64, key, value string) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), CreateRevision: 1, ModRevision: rev, Value: []byte(value)}
	}
	for name, c := range map[string]struct {
		queue, marks []*mvccpb.KeyValue
		want         []string
	}{
		"nobody": {nil, nil, nil},
		"by age": {[]*mvccpb.KeyValue{kv(1, "e/1", ""), kv(2, "e/2", ""), kv(3, "e/3", "")}, nil, []string{"e/1", "e/2", "e/3"}},
		"a leader is not disturbed by a priority": {
			[]*mvccpb.KeyValue{kv(1, "e/1", ""), kv(2, "e/2", ""), kv(3, "e/3.0p1", ""), kv(4, "e/4.0p5", ""), kv(5, "e/5.0p5", "")}, nil,
			[]string{"e/1", "e/4.0p5", "e/5.0p5", "e/3.0p1", "e/2"}},
		"marks come first, the oldest before the others": {
			[]*mvccpb.KeyValue{kv(1, "e/1", ""), kv(2, "e/2.0p5", ""), kv(3, "e/3", ""), kv(4, "e/4", "")},
			[]*mvccpb.KeyValue{mark(6, "e\x00next/3", `{"next":"3","rev":3}`), mark(5, "e\x00next/4", `{"next":"4","rev":4}`)},
			[]string{"e/1", "e/4", "e/3", "e/2.0p5"}},
		"the mark of somebody who has gone counts for nothing": {
			[]*mvccpb.KeyValue{kv(2, "e/2", ""), kv(3, "e/3", ""), kv(4, "e/4", "")},
			[]*mvccpb.KeyValue{mark(1, "e\x00next/9", `{"next":"9","rev":9}`), mark(5, "e\x00next/4", `{"next":"4","rev":1}`), mark(6, "e\x00next/5", "?")},
			[]string{"e/2", "e/3", "e/4"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, kv := range (&Queue{from: "e/"}).rank(c.queue, c.marks) {
				got = append(got, string(kv.Key))
			}
			require.Equal(t, c.want, got)
		})
	}
}
