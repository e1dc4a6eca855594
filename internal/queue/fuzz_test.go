package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// FuzzFollow creates and deletes keys with any suffix and any value, several in one revision too, while
// watches break and the history is compacted. Follow reports the history of the oldest entry, each one at
// its revision and in order. It reports no entry that was not the oldest, and in the end the one that is.
//
// A script is a list of steps. Each is a byte, which says what is done, and to which key.
func FuzzFollow(f *testing.F) {
	f.Add("1f", []byte("v"), []byte{0, 7, 14, 1, 8, 15, 2, 9})
	f.Add("", []byte{}, []byte{0, 1, 0, 1, 0, 3, 1, 0})
	f.Add("\x00", []byte("\xff"), []byte{7, 0, 4, 1, 8, 0, 5, 1, 0})
	f.Add("stray", []byte("{"), []byte{0, 7, 14, 21, 28, 3, 2, 4, 0, 5, 2, 0, 6, 13, 1})
	f.Add("b/1f", []byte("nested"), []byte{0, 1, 0})
	f.Add("b\x00turn/1f", []byte("beside"), []byte{0, 7, 1, 0})
	f.Add(".next", []byte(`{"next":"q/1.next","rev":2}`), []byte{0, 7, 1, 14, 8})
	f.Fuzz(func(t *testing.T, suffix string, value []byte, script []byte) {
		if len(script) > 60 || len(suffix) > 1000 {
			t.Skip("longer ones find nothing that short ones do not")
		}
		_, nested := wire.Nested("q", "q/0"+suffix)
		nested = nested && !wire.BesideInner("q/", []byte("q/0"+suffix))
		simulate(t, func(r *rig) {
			h := &history{keys: map[string]*mvccpb.KeyValue{}, first: map[int64]string{}}
			r.OnEvent(h.changed)
			q := r.queue("a")
			ctx, cancel := context.WithCancelCause(r.ctx)
			var told []string
			ended := make(chan error, 1)
			go func() {
				last := int64(0)
				ended <- q.Follow(ctx, func(first *mvccpb.KeyValue, rev int64) bool {
					told = append(told, describe(first))
					if want := h.at(rev); want != describe(first) {
						r.Errorf("told %s at %d, where it was %s", describe(first), rev, want)
					}
					if rev < last {
						r.Errorf("told of %d after %d", rev, last)
					}
					last = rev
					return true
				})
			}()
			time.Sleep(time.Second)
			for _, b := range script {
				key := fmt.Sprintf("q/%d%s", b/7%4, suffix)
				switch b % 7 {
				case 0:
					r.PutKey(key, string(value), clientv3.NoLease)
				case 1:
					r.DeleteKey(key)
				case 2: // all at one revision
					lease := r.GrantLease(time.Hour)
					for i := range 3 {
						r.PutKey(fmt.Sprintf("q/%d%s", i, suffix), string(value), lease)
					}
					r.RevokeLease(lease)
				case 3:
					r.CutWatches()
				case 4:
					r.Compact(0)
				case 5:
					r.CancelWatches("made for a test")
				case 6:
					time.Sleep(time.Duration(b) * time.Second)
				}
				time.Sleep(time.Duration(b) * time.Millisecond)
			}
			time.Sleep(time.Minute)
			cancel(errEnough)
			err := <-ended
			if nested && !errors.Is(err, errEnough) {
				require.ErrorIs(r, err, lockerr.ErrNestedName)
				return
			}
			require.ErrorIs(r, err, errEnough)
			require.Equal(r, h.at(r.Revision()), told[len(told)-1])
		})
	})
}

var errEnough = errors.New("enough")

// history is the oldest entry at each revision.
type history struct {
	mu    sync.Mutex
	keys  map[string]*mvccpb.KeyValue
	rev   int64
	first map[int64]string
}

func (h *history) changed(rev int64, ev *mvccpb.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case wire.BesideInner("q/", ev.Kv.Key): // no entry
	case ev.Type == mvccpb.Event_DELETE:
		delete(h.keys, string(ev.Kv.Key))
	default:
		h.keys[string(ev.Kv.Key)] = ev.Kv
	}
	var first *mvccpb.KeyValue
	for _, kv := range h.keys {
		if first == nil || kv.CreateRevision < first.CreateRevision {
			first = kv
		}
	}
	h.rev, h.first[rev] = rev, describe(first) // the last event of a revision counts
}

// at returns the oldest entry at a revision, at which nothing need have changed.
func (h *history) at(rev int64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for rev = min(rev, h.rev); rev > 0; rev-- {
		if first, ok := h.first[rev]; ok {
			return first
		}
	}
	return describe(nil)
}

func describe(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "nobody"
	}
	return fmt.Sprintf("%q=%q@%d", kv.Key, kv.Value, kv.CreateRevision)
}
