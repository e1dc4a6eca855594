package queue

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Sessions that only enter again read the list of a part of the queue, and only some of them do. Each of them
// learns nevertheless how long the queue has become.
func TestAnEntryAgainKnowsThatTheQueueHasGrown(t *testing.T) {
	simulate(t, func(r *rig) {
		var names []string
		for i := range 80 {
			names = append(names, fmt.Sprintf("s%d", i))
		}
		all := r.lineUp(names[:40]...)
		for _, name := range names[:40] {
			all[name].holds(soon)
			all[name].again()
		}
		for _, name := range names[40:] {
			all[name] = r.lineUp(name)[name]
		}
		for range mostGuesses + 2 {
			for _, name := range names {
				all[name].holds(soon)
				all[name].again()
			}
		}
		for _, name := range names {
			require.GreaterOrEqual(r, all[name].entry.saw().count, int64(len(names)-2), name)
		}
	})
}

// The inbox is deleted at the time of the release. The entry looks for itself then.
func TestAnEntryAgainWhoseInboxIsDeleted(t *testing.T) {
	for _, when := range []string{"before", "at the same time", "after"} {
		t.Run(when, func(t *testing.T) {
			simulate(t, func(r *rig) {
				all := r.lineUp("a", "b")
				a, b := all["a"], all["b"]
				a.holds(soon)
				if when != "after" {
					r.DeleteKey(a.inbox.key)
				}
				if when == "before" {
					time.Sleep(soon)
				}
				_, e, err := a.LeaveAndEnter(a.ctx, a.entry, a.other())
				require.NoError(r, err)
				require.NotNil(r, e)
				a.entry = e
				if when == "after" {
					r.DeleteKey(a.inbox.key)
				}
				b.holds(soon)
				b.again()
				time.Sleep(soon)
				a.wait()
				a.holds(soon)
				a.leave()
				b.holds(soon)
				b.leave()
				require.Empty(r, r.Keys("q/"))
			})
		})
	}
}

// The message for the new entry comes before its wait.
func TestATurnBeforeTheWaitOfAnEntryAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp("a", "b")
		a, b := all["a"], all["b"]
		a.holds(soon)
		_, e, err := a.LeaveAndEnter(a.ctx, a.entry, a.other())
		require.NoError(r, err)
		a.entry = e
		b.holds(soon)
		b.leave()
		time.Sleep(soon)
		a.client.ResetCounts()
		a.wait()
		a.holds(soon)
		require.Zero(r, a.client.Count())
	})
}
