package lockmgr

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
