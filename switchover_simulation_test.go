package etcdlock

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/pause"
)

// TestSwitchoversInFoulWeather is TestElectionsInFoulWeather with requests of an operator to resign and to transfer, from
// each process. The work of a leader that is asked takes a while to stop. No two work at one time, and what an operator is
// told is so.
//
//	ETCDLOCK_SEEDS=5000 go test -v -run TestSwitchoversInFoulWeather .
func TestSwitchoversInFoulWeather(t *testing.T) {
	first, count := seeds(t, 60)
	var sum cabinetTally
	var switches switchTally
	for seed := first; seed < first+count; seed++ {
		c := govern(t, seed, switches.operate, WithResignOnRequest())
		sum.add(c)
		p := &played{referee: c.referee, seed: seed, test: t.Name()}
		if verdict := p.verdict(); verdict != "" {
			t.Fatal(verdict)
		}
	}
	t.Logf("%d schedules: %d terms, %d lost, %d faults; %d requests: %d done, %d refused or overtaken, %d without an outcome; %d pauses; a leader at the latest %v after them",
		count, sum.grants, sum.losses, sum.faults, switches.asked, switches.done, switches.refused, switches.unknown, switches.paused, sum.vacant)
	if count >= 10 {
		require.Positive(t, switches.done)
		require.Positive(t, switches.refused)
		require.Positive(t, switches.paused)
	}
}

type switchTally struct{ asked, done, refused, unknown, paused int }

// operate asks the leader, whichever that is, again and again.
func (s *switchTally) operate(ctx context.Context, c *cabinet) {
	r := rand.New(rand.NewPCG(c.seed, 2))
	for ctx.Err() == nil {
		time.Sleep(time.Duration(1 + r.Int64N(int64(simTTL))))
		e := NewElection(c.sessions[r.IntN(ministers)], "e")
		bounded, cancel := context.WithTimeout(ctx, time.Duration(1+r.Int64N(int64(4*simTTL))))
		if r.IntN(6) == 0 {
			s.pause(bounded, c, r)
			cancel()
			continue
		}
		var err error
		if to := minister(r.IntN(ministers)); r.IntN(3) > 0 {
			err = e.AskToTransfer(bounded, to, "weather")
			c.note("an operator asks for %s: %v", to, err)
		} else {
			err = e.AskToResign(bounded, "weather")
			c.note("an operator asks for a resignation: %v", err)
		}
		s.asked++
		switch {
		case err == nil:
			s.done++
		case errors.Is(err, ErrNoCandidate), errors.Is(err, ErrNoLeader), errors.Is(err, ErrNotHonoured):
			s.refused++
		case bounded.Err() != nil, errors.Is(err, ErrLost), isUnavailable(err):
			s.unknown++
		default:
			c.violation(documented, "an operator is told: %v", err)
		}
		cancel()
	}
}

// pause pauses the election for a while. No work may begin meanwhile, see cabinet.begin.
func (s *switchTally) pause(ctx context.Context, c *cabinet, r *rand.Rand) {
	client := c.sessions[r.IntN(ministers)].Client()
	p, err := pause.Begin(ctx, client, "e", time.Duration(1+r.IntN(5))*time.Second)
	c.note("an operator pauses: %v", err)
	if err != nil {
		gone := errors.Is(err, rpctypes.ErrLeaseNotFound) // the lease of a short pause, while a request was late
		if !errors.Is(err, pause.ErrPaused) && ctx.Err() == nil && !gone && !isUnavailable(err) {
			c.violation(documented, "an operator cannot pause: %v", err)
		}
		return
	}
	s.paused++
	time.Sleep(time.Duration(r.Int64N(1 + int64(max(0, time.Until(p.Until))))))
	err = pause.End(ctx, client, "e")
	c.note("an operator ends a pause: %v", err)
}
