package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// The rule is asked for each change in the queue, so it must not allocate.
func TestALookAtAViewDoesNotAllocate(t *testing.T) {
	m := &snapshot{entries: map[string]*mvccpb.KeyValue{}}
	for i := range fewEntries {
		key := fmt.Sprintf("q/%x", i)
		m.entries[key] = &mvccpb.KeyValue{Key: []byte(key), Value: []byte("v"), CreateRevision: int64(1 + i)}
	}
	e := newEntry("q/5", Want{}, 6)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		blocker, err := m.blocker(e)
		if err != nil || blocker.CreateRevision != 5 {
			t.Fatal(blocker, err)
		}
	}))
}

// An entry for permits that another client has written over says so, and not that its limit is
// another one.
func TestAnEntryThatWasOverwritten(t *testing.T) {
	permits := wire.Holder{PID: 1, Since: time.Now(), Mode: wire.Counted, Permits: 1, Limit: 5}
	other := &mvccpb.KeyValue{Key: []byte("q/1"), Value: []byte(permits.Encode()), CreateRevision: 1}
	own := &mvccpb.KeyValue{Key: []byte("q/2"), Value: []byte("something else"), CreateRevision: 2}
	for _, wants := range []wire.Mode{wire.Counted, wire.Upgrading} {
		e := newEntry("q/2", Want{Rule: &Rule{wants: wants}}, 2)
		_, err := e.blocker(own, []*mvccpb.KeyValue{other, own})
		require.ErrorIs(t, err, ErrOverwritten)
	}
}
