package etcdlock

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// spans gives each call of a session a traceparent of its own, and notes what the calls were behind.
type spans struct {
	session int
	calls   int
	behind  []string
	err     []error
}

type spanKey struct{}

func (s *spans) span(call int) string { return fmt.Sprintf("00-%032x-%016x-01", s.session, call) }

func (s *spans) trace() *Trace {
	return &Trace{
		AcquireStart: func(ctx context.Context, _ AcquireStartInfo) context.Context {
			s.calls++
			return context.WithValue(ctx, spanKey{}, s.span(s.calls))
		},
		Traceparent: func(ctx context.Context) string { return ctx.Value(spanKey{}).(string) },
		AcquireEnd: func(_ context.Context, i AcquireEndInfo) {
			s.behind, s.err = append(s.behind, i.Behind), append(s.err, i.Err)
		},
	}
}

// last is what the last call was behind.
func (s *spans) last() string { return s.behind[len(s.behind)-1] }

// spanned is a session whose calls have traceparents.
func (w *world) spanned(client string, n int) (*Session, *spans) {
	s := &spans{session: n}
	return w.session(client, WithTrace(s.trace())), s
}

func TestAWaiterLearnsTheSpanOfTheHolder(t *testing.T) {
	simulate(t, func(w *world) {
		a, as := w.spanned("a", 1)
		b, bs := w.spanned("b", 2)
		c, cs := w.spanned("c", 3)
		holds := w.lock(NewMutex(a, "m"))
		require.Equal(w, []string{""}, as.behind, "nothing was in the way")
		queue, err := NewMutex(b, "m").Queue(w.ctx)
		require.NoError(w, err)
		require.Equal(w, as.span(1), queue[0].Traceparent)
		waits := start(w, NewMutex(b, "m").Lock)
		w.pass(3 * time.Second)
		next := start(w, NewMutex(c, "m").Lock)
		w.pass(3 * time.Second)
		w.unlock(holds.Unlock)
		l := waits.get()
		require.Equal(w, as.span(1), bs.last())
		w.pass(3 * time.Second)
		w.unlock(l.Unlock)
		w.unlock(next.get().Unlock)
		require.Equal(w, bs.span(1), cs.last(), "the entry that was in the way last")
		w.empty("m")
	})
}

func TestARefusedCallLearnsTheSpanOfTheHolder(t *testing.T) {
	simulate(t, func(w *world) {
		a, as := w.spanned("a", 1)
		b, bs := w.spanned("b", 2)
		holds := w.lock(NewMutex(a, "m"))
		_, err := NewMutex(b, "m").TryLock(w.ctx)
		require.ErrorIs(w, err, ErrLocked)
		require.Equal(w, as.span(1), bs.last())
		_, err = NewMutex(b, "m").Lock(w.timeout(3 * time.Second))
		require.ErrorIs(w, err, ErrLocked)
		require.Equal(w, as.span(1), bs.last())
		var locked *LockedError
		require.ErrorAs(w, err, &locked)
		require.Equal(w, as.span(1), locked.Holder.Traceparent)
		w.unlock(holds.Unlock)
	})
}

// The second goroutine goes on with the key of the first, which has waited in etcd.
func TestAHandOverInMemoryIsBehindNoEntry(t *testing.T) {
	simulate(t, func(w *world) {
		a, as := w.spanned("a", 1)
		b, bs := w.spanned("b", 2)
		holds := w.lock(NewMutex(a, "m"))
		m := NewMutex(b, "m", WithTimeSlice(time.Hour))
		waits := w.lockers(2, m)
		w.pass(3 * time.Second)
		w.unlock(holds.Unlock)
		w.unlock(waits[0].get().Unlock)
		w.unlock(waits[1].get().Unlock)
		require.Equal(w, []string{as.span(1), ""}, bs.behind)
	})
}

// Each way to write a key has the trace in it: also those that write the key again.
func TestEachKeyHasTheTraceOfItsCall(t *testing.T) {
	simulate(t, func(w *world) {
		s, spans := w.spanned("a", 1)
		has := func(name string) {
			w.Helper()
			queue, err := NewMutex(s, name).Queue(w.ctx)
			require.NoError(w, err)
			require.NotEmpty(w, queue)
			for _, e := range queue {
				require.Equal(w, spans.span(spans.calls), e.Traceparent)
			}
		}
		rw := NewRWMutex(s, "rw")
		read, err := rw.RLock(w.ctx)
		require.NoError(w, err)
		has("rw")
		w.unlock(read.Unlock)
		write, err := rw.Lock(w.ctx)
		require.NoError(w, err)
		has("rw")
		call := spans.calls
		read, err = write.Downgrade(w.ctx)
		require.NoError(w, err)
		spans.calls = call // the key goes on, and has the trace of the call that wrote it
		has("rw")
		_, err = read.Upgrade(w.ctx)
		require.NoError(w, err)
		spans.calls = call
		has("rw")
		permits := NewSemaphore(s, "sem", 3)
		_, err = permits.Acquire(w.ctx, 1)
		require.NoError(w, err)
		has("sem")
		require.NoError(w, permits.SetLimit(w.ctx, 2))
		has("sem")
		_, err = NewMultiMutex(s, []string{"x", "y"}).Lock(w.ctx)
		require.NoError(w, err)
		has("x")
		has("y")
		_, err = NewMutex(s, "owned", WithOwner("é")).Lock(w.ctx)
		require.NoError(w, err)
		has("owned")
	})
}

// The value of a candidate is its proposal, byte for byte.
func TestAProposalHasNoTrace(t *testing.T) {
	simulate(t, func(w *world) {
		s, _ := w.spanned("a", 1)
		term := w.campaign(NewElection(s, "e"), `{"pid":1}`)
		leader, err := NewElection(s, "e").Leader(w.ctx)
		require.NoError(w, err)
		require.Equal(w, `{"pid":1}`, leader.Value)
		require.NoError(w, term.Resign(w.ctx))
	})
}

// What a hook returns is written only if it is a traceparent, and the first such result counts.
func TestOnlyATraceparentIsWritten(t *testing.T) {
	simulate(t, func(w *world) {
		gives := func(s string) *Trace { return &Trace{Traceparent: func(context.Context) string { return s }} }
		good := (&spans{session: 1}).span(1)
		for want, traces := range map[string][]*Trace{
			"":   {gives(""), gives(strings.Repeat("x", 1<<20)), {}, gives("00-" + good)},
			good: {gives(""), gives(good), gives((&spans{session: 2}).span(2))},
		} {
			s := w.session("a", WithTrace(traces...))
			l := w.lock(NewMutex(s, "m"))
			queue, err := NewMutex(s, "m").Queue(w.ctx)
			require.NoError(w, err)
			require.Equal(w, want, queue[0].Traceparent)
			require.Less(w, len(queue[0].Value), 300)
			w.unlock(l.Unlock)
		}
		hostile := wire.Holder{Owner: "o", PID: 7, Since: time.Now().UTC(), Trace: "\x1b[2J"}.Encode()
		s := w.session("b")
		w.PutKey(wire.Key("m", s.Lease()), hostile, s.Lease())
		queue, err := NewMutex(s, "m").Queue(w.ctx)
		require.NoError(w, err)
		require.Equal(w, "o", queue[0].Owner)
		require.Empty(w, queue[0].Traceparent)
	})
}
