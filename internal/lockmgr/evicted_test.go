package lockmgr

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/lockerr"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// ignoreQuestions leaves the first n questions about a lease without an answer.
func (r *rig) ignoreQuestions(n int) {
	asked := 0
	r.Intercept(func(c simetcd.Call) simetcd.Action {
		if c.Kind != simetcd.LeaseTimeToLive {
			return simetcd.Action{}
		}
		asked++
		return simetcd.Action{DropRequest: asked <= n}
	})
}

// evict deletes the key of a hold, of which the session knows soon.
func (r *rig) evict(h *Hold) {
	r.DeleteKey(h.Entry().Key)
	time.Sleep(20 * time.Millisecond)
}

// The release of one reader does not end the others as released, while the cause of the loss is asked for.
func TestAReaderThatReleasesAnEvictedKeyReleasesNoOther(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		first, second := a.lock("m", shared()), a.lock("m", shared())
		require.Same(r, first.Deletion().Of, second.Deletion().Of)
		r.pass(5 * time.Second)
		r.ignoreQuestions(1)
		r.evict(first)
		require.NoError(r, first.Err())
		require.ErrorIs(r, first.Release(r.Context()), lockerr.ErrEvicted)
		<-second.Context().Done()
		require.ErrorIs(r, second.Err(), lockerr.ErrEvicted)
		r.pass(time.Second)
	})
}

func TestAWriterThatDowngradesAnEvictedKeyIsEvicted(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		writer := a.lock("m", exclusive())
		r.pass(5 * time.Second)
		r.ignoreQuestions(1)
		r.evict(writer)
		require.NoError(r, writer.Err())
		reader, err := writer.Downgrade(r.Context())
		if err == nil {
			<-reader.Context().Done()
			err = reader.Err()
		}
		require.ErrorIs(r, err, lockerr.ErrEvicted)
		r.pass(time.Second)
	})
}

// The keys of many holds are deleted for a while. The log has a line for all of them from time to time.
func TestTheLogHasOneLineForManyDeletedKeys(t *testing.T) {
	const holds, between = 3000, time.Millisecond
	simulate(t, func(r *rig) {
		a := r.manager("a")
		var all []*Hold
		for i := range holds {
			all = append(all, a.lock(strconv.Itoa(i), exclusive()))
		}
		r.pass(5 * time.Second)
		for _, h := range all {
			r.DeleteKey(h.Entry().Key)
			time.Sleep(between)
		}
		r.pass(2 * time.Second)
		lines, n := a.logs.FilterMessageSnippet("lost").All(), 0
		for _, line := range lines {
			found := line.ContextMap()
			require.Equal(r, lockerr.Lost(lockerr.ErrEvicted).Error(), found["error"])
			if line.Message == "a hold is lost: another client has deleted its key" { // the last few
				n++
				continue
			}
			count := int(found["holds"].(int64))
			n += count
			lost := found["lost"].([]any)
			require.Len(r, lost, local.MostLost+1)
			require.Equal(r, fmt.Sprintf("and %d more", count-local.MostLost), lost[local.MostLost])
		}
		require.Equal(r, holds, n)
		require.LessOrEqual(r, len(lines), int(holds*between/time.Second)+1+local.MostLost)
	})
}

// Holds with different causes are not in one line, and a few holds have a line each, which names the key, also when
// the session ends meanwhile.
func TestTheLogHasALineForEachCauseOfALoss(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		first, second, third := a.lock("first", exclusive()), a.lock("second", exclusive()), a.lock("third", exclusive())
		r.pass(5 * time.Second)
		lost := lockerr.Lost(lockerr.ErrEvicted)
		first.Deletion().Of.Lose(lost)
		second.Deletion().Of.Lose(lockerr.Lost(errEvictedOrRevoked))
		require.Empty(r, a.logs.All())
		r.pass(100 * time.Millisecond)
		third.Deletion().Of.Lose(lost)
		r.pass(100 * time.Millisecond)
		require.Equal(r, 2, a.logs.Len())
		began := time.Now()
		a.close()
		require.Less(r, time.Since(began), 100*time.Millisecond)
		causes := make(map[any]any)
		for _, line := range a.logs.All() {
			require.Equal(r, "a hold is lost: another client has deleted its key", line.Message)
			causes[line.ContextMap()["lock"]] = line.ContextMap()["error"]
		}
		unknown := lockerr.Lost(errEvictedOrRevoked).Error()
		require.Equal(r, map[any]any{`"first"`: lost.Error(), `"second"`: unknown, `"third"`: lost.Error()}, causes)
	})
}

// Keys that go one after the other wait for one answer, and not for one each.
func TestNoHoldContinuesForLongerWhileACauseIsAskedFor(t *testing.T) {
	simulate(t, func(r *rig) {
		a := r.manager("a")
		first, second := a.lock("m", exclusive()), a.lock("n", exclusive())
		r.pass(5 * time.Second)
		r.ignoreQuestions(1000)
		r.evict(first)
		began := time.Now()
		r.evict(second)
		<-second.Context().Done()
		require.LessOrEqual(r, time.Since(began), explainWithin+50*time.Millisecond)
		r.Intercept(nil)
	})
}
