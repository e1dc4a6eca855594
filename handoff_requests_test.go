package etcdlock

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A run of turns begins with a holder that was not granted by a turn, as behind an entry that is not marked. That
// one reads the list of those behind it when it leaves. The list goes on with each turn, so no other holder of the
// run reads anything. The very last one reads whether another entry has come.
func TestEachRunOfTurnsCostsOneRead(t *testing.T) {
	simulateEven(t, func(w *world) {
		var names []string
		for run := range 3 {
			names = append(names, fmt.Sprint("plain", run))
			for n := range 4 {
				names = append(names, fmt.Sprint("marked", run, n))
			}
		}
		var calls []*pending[*Lock]
		for _, name := range names {
			var opts []SessionOption
			if strings.HasPrefix(name, "marked") {
				opts = append(opts, marks())
			}
			calls = append(calls, start(w, NewMutex(w.session(name, opts...), "m").Lock))
			w.pass(5 * time.Millisecond)
		}
		last := int64(0)
		for i, name := range names {
			l := calls[i].get()
			require.Greater(w, l.Token(), last, name)
			last = l.Token()
			w.pass(5 * time.Millisecond)
			sent := requests(w.Client(name), func() {
				require.NoError(w, l.Unlock(w.ctx))
				w.pass(5 * time.Millisecond)
			})
			want := "1 Txn"
			if n := i % 5; n == 1 || i == len(names)-1 {
				want = "1 Range, 1 Txn"
			}
			require.Equal(w, want, sent, name)
		}
		w.allGone()
	})
}
