package leaderloop

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scriptedCheck is a check every second. Each letter is a result: it passes (.), fails (x), hangs for 2.5 s (h) or calls
// Goexit (g). After the last one it passes.
func scriptedCheck(failures int, results string) *HealthCheck {
	n := -1
	return &HealthCheck{Interval: time.Second, Failures: failures, Check: func(context.Context) error {
		n++
		if n >= len(results) {
			return nil
		}
		switch results[n] {
		case 'x':
			return errors.New("no disk")
		case 'h':
			time.Sleep(2500 * time.Millisecond)
		case 'g':
			runtime.Goexit()
		}
		return nil
	}}
}

// A process is in the queue while it is healthy, and not before the first check has passed.
func TestAProcessIsACandidateOnlyWhileItIsHealthy(t *testing.T) {
	for name, c := range map[string]struct {
		failures int
		results  string
		roles    []string
	}{
		"no check has passed":         {1, "xxx.", []string{"0s observer", "3s candidate"}},
		"too many failures":           {2, ".x.xx..", []string{"0s observer", "0s candidate", "4s observer", "6s candidate"}},
		"a check that hangs":          {2, "..h..", []string{"0s observer", "0s candidate", "4s observer", "5s candidate"}},
		"a check that hangs for less": {3, "..h..", []string{"0s observer", "0s candidate"}},
		"a check that calls Goexit":   {1, ".g.", []string{"0s observer", "0s candidate", "1s observer", "2s candidate"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *stage) {
				s.queued = true
				s.cfg.Health = scriptedCheck(c.failures, c.results)
			}, func(s *stage) {
				s.at(time.Minute)
				s.require(c.roles, nil)
				require.NoError(s, s.seen().Unhealthy)
			})
		})
	}
}

func TestTheMonitorIsToldWhyTheProcessIsUnhealthy(t *testing.T) {
	play(t, func(s *stage) {
		s.cfg.Health = scriptedCheck(1, ".xhg.")
	}, func(s *stage) {
		require.NoError(s, s.seen().Unhealthy)
		s.at(time.Second)
		require.ErrorContains(s, s.seen().Unhealthy, "unhealthy: no disk")
		s.at(time.Minute)
		require.NoError(s, s.seen().Unhealthy)
	})
}

func TestHealthFollowsFromStreaksOfResults(t *testing.T) {
	for name, c := range map[string]struct{ results, want string }{
		"healthy from the first pass":              {"xxx.", "---+"},
		"three failures in a row":                  {"..x.xx.xxxx", "+++++++++--"},
		"as many passes to be healthy again":       {".xxx..x...", "+++------+"},
		"twice as many passes after the next fall": {".xxx...xxx......", "+++---+++------+"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHealthState(3)
			var got strings.Builder
			for _, r := range c.results {
				s.add(r == '.')
				got.WriteByte(map[bool]byte{true: '+', false: '-'}[s.healthy])
			}
			require.Equal(t, c.want, got.String())
		})
	}
}

func TestAProcessThatFlapsNeedsMorePassesUntilItIsTrustedAgain(t *testing.T) {
	s := newHealthState(3)
	recovers := func() (passes int) {
		for range s.failures {
			s.add(false)
		}
		require.False(t, s.healthy)
		for !s.healthy {
			s.add(true)
			passes++
		}
		return passes
	}
	s.add(true)
	var asked []int
	for range 8 {
		asked = append(asked, recovers())
	}
	require.Equal(t, []int{3, 6, 12, 24, 48, 96, 96, 96}, asked)
	for range trustFactor * s.requiredPasses {
		s.add(true)
	}
	require.Equal(t, 3, recovers())
}
