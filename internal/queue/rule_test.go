package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// An entry for permits that another client has written over says so, and not that its limit is
// another one.
func TestAnEntryThatWasOverwritten(t *testing.T) {
	permits := wire.Holder{PID: 1, Since: time.Now(), Mode: wire.Counted, Permits: 1, Limit: 5}
	other := &mvccpb.KeyValue{Key: []byte("q/1"), Value: []byte(permits.Encode()), CreateRevision: 1}
	own := &mvccpb.KeyValue{Key: []byte("q/2"), Value: []byte("something else"), CreateRevision: 2}
	for _, rule := range []*Rule{Permits(nil), sole()} {
		e := newEntry("q/2", Want{Rule: rule}, 2)
		_, err := e.blocker(own, []*mvccpb.KeyValue{other, own})
		require.ErrorIs(t, err, ErrOverwritten)
	}
}
