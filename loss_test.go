package etcdlock

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logged "go.uber.org/zap/zaptest/observer"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/local"
	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// report L2: what was lost is told by name, token and age, in one line. Holds end in goroutines of their own, before or
// after the session has seen the end of its lease.
func TestALostLeaseIsLoggedWithWhatWasHeldUnderIt(t *testing.T) {
	for range 20 {
		simulate(t, func(w *world) {
			core, logs := logged.New(zapcore.WarnLevel)
			a := w.session("a", WithLogger(zap.New(core)))
			lock := w.lock(NewMutex(a, "orders/1"))
			w.pass(time.Second)
			read, err := NewRWMutex(a, "config").RLock(w.ctx)
			require.NoError(w, err)
			permits, err := NewSemaphore(a, "pool", 5).Acquire(w.ctx, 2)
			require.NoError(w, err)
			set, err := NewMultiMutex(a, []string{"x", "y"}).Lock(w.ctx)
			require.NoError(w, err)
			term := w.campaign(NewElection(a, "e"), "a")
			require.NoError(w, w.lock(NewMutex(a, "kept", WithRetention(time.Hour))).Unlock(w.ctx))
			released := w.lock(NewMutex(a, "released"))
			require.NoError(w, released.Unlock(w.ctx))
			held := time.Now()
			w.Stop()
			w.pass(5 * time.Second)
			deadline := lock.Deadline()
			w.pass(2*ttl - 5*time.Second)
			w.Start()
			w.pass(ttl)
			lost := logs.FilterMessageSnippet("lease lost").All()
			require.Len(w, lost, 1)
			fields := lost[0].ContextMap()
			require.Equal(w, int64(5), fields["holds"])
			require.Len(w, fields["lost"], 5)
			age := deadline.Sub(held)
			for i, want := range []struct {
				what  string
				token int64
				more  time.Duration
			}{
				{`lock "orders/1"`, lock.Token(), time.Second}, {`read lock "config"`, read.Token(), 0}, {`permits of "pool"`, permits.Token(), 0},
				{`lock ["x" "y"]`, set.Token(), 0}, {`election "e"`, term.Token(), 0},
			} {
				told, held, _ := strings.Cut(fields["lost"].([]any)[i].(string), ", held for ")
				require.Equal(w, fmt.Sprintf("%s, token %d", want.what, want.token), told)
				lasted, err := time.ParseDuration(held)
				require.NoError(w, err)
				require.InDelta(w, age+want.more, lasted, float64(100*time.Millisecond))
			}
		})
	}
}

// A process that was paused past its deadline notices the loss late. Its log says for how long it
// held, not until when it was paused: otherwise the logs of two holders would seem to overlap.
func TestTheLogOfALossDoesNotCountAPauseAfterTheDeadline(t *testing.T) {
	simulate(t, func(w *world) {
		core, logs := logged.New(zapcore.WarnLevel)
		clock := &movable{start: time.Now()}
		a := w.session("a", withClock(clock.now), WithLogger(zap.New(core)))
		began := time.Now()
		lock := w.lock(NewMutex(a, "m"))
		w.pass(ttl / 2)
		held := lock.Deadline().Sub(began)
		w.Client("a").Cut()
		clock.sleep(3 * ttl)
		<-lock.Done()
		w.pass(time.Second)
		lost := logs.FilterMessageSnippet("lease lost").All()
		require.Len(w, lost, 1)
		told := lost[0].ContextMap()["lost"].([]any)[0].(string)
		_, told, _ = strings.Cut(told, ", held for ")
		lasted, ago, ok := strings.Cut(told, ", ended ")
		require.True(w, ok, told)
		d, err := time.ParseDuration(lasted)
		require.NoError(w, err)
		require.InDelta(w, held, d, float64(100*time.Millisecond))
		d, err = time.ParseDuration(strings.TrimSuffix(ago, " ago"))
		require.NoError(w, err)
		require.InDelta(w, 3*ttl+ttl/2-held, d, float64(time.Second))
		w.Client("a").Heal()
		w.pass(time.Second)
	})
}

// report L2: a process with many locks does not fill its log.
func TestOfManyLostHoldsAFewAreNamed(t *testing.T) {
	simulate(t, func(w *world) {
		core, logs := logged.New(zapcore.WarnLevel)
		a := w.session("a", WithLogger(zap.New(core)))
		for i := range 30 {
			w.lock(NewMutex(a, fmt.Sprintf("m%02d", i)))
		}
		w.RevokeLease(a.Lease())
		w.pass(2 * ttl)
		lost := logs.FilterMessageSnippet("lease lost").All()
		require.Len(w, lost, 1)
		told := lost[0].ContextMap()["lost"].([]any)
		require.Len(w, told, local.MostLost+1)
		require.Contains(w, told[0], `lock "m00"`)
		require.Equal(w, "and 20 more", told[local.MostLost])
		require.Equal(w, int64(30), lost[0].ContextMap()["holds"])
		w.RevokeLease(a.Lease()) // and the next loss tells of nothing that was lost before
		w.pass(2 * ttl)
		lost = logs.FilterMessageSnippet("lease lost").All()
		require.Len(w, lost, 2)
		require.Equal(w, int64(0), lost[1].ContextMap()["holds"])
	})
}

// report L2: nor is the loss of one key alone silent. The loss of a key without a holder is not logged.
func TestAnEvictionIsLoggedOnce(t *testing.T) {
	simulate(t, func(w *world) {
		core, logs := logged.New(zapcore.WarnLevel)
		a := w.session("a", WithLogger(zap.New(core)))
		lock := w.lock(NewMutex(a, "m"))
		term := w.campaign(NewElection(a, "e"), "a")
		require.NoError(w, w.lock(NewMutex(a, "kept", WithRetention(time.Hour))).Unlock(w.ctx))
		w.pass(time.Second)
		for _, name := range []string{"m", "e", "kept"} {
			w.DeleteKey(string(w.Keys(name + "/")[0].Key))
		}
		require.ErrorIs(w, term.Proclaim(w.ctx, "late"), ErrEvicted)
		w.pass(2 * time.Minute)
		all := logs.All()
		require.Len(w, all, 2)
		tokens := map[any]any{}
		for _, l := range all {
			require.Contains(w, l.Message, "another client has deleted its key")
			f := l.ContextMap()
			for _, kind := range []string{"lock", "election"} {
				if name, ok := f[kind]; ok {
					tokens[kind+" "+name.(string)] = f["token"]
				}
			}
		}
		require.Equal(w, map[any]any{`lock "m"`: lock.Token(), `election "e"`: term.Token()}, tokens)
	})
}

// What etcd refuses may be put right, as a space alarm, or the password of a user that was changed
// by mistake. The session waits for that as for an etcd that is away, and says so once for each reason.
func TestARefusedLeaseIsAskedForAgainAndLoggedOnce(t *testing.T) {
	simulate(t, func(w *world) {
		core, logs := logged.New(zapcore.InfoLevel)
		s := w.session("a", WithLogger(zap.New(core)))
		refused := func() int { return logs.FilterMessageSnippet("etcd refuses a new lease").Len() }
		for n, why := range []error{rpctypes.ErrGRPCNoSpace, rpctypes.ErrGRPCAuthFailed} {
			w.every("a", simetcd.Action{Err: why}, simetcd.LeaseGrant)
			w.RevokeLease(s.Lease())
			w.pass(10 * time.Minute)
			require.Equal(w, StateLost, s.State())
			require.Equal(w, n+1, refused())
		}
		p := begin(w, NewMutex(s, "m").Lock)
		p.isWaiting()
		w.Intercept(nil)
		require.NoError(w, p.get().Unlock(w.ctx))
		require.Equal(w, 2, refused())
		require.Equal(w, 1, logs.FilterMessageSnippet("new lease granted").Len())
	})
}
