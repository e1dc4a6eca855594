package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Three processes take turns; the second keeps the lock for two holds in memory.
func fairPlay() []stay {
	return []stay{
		{Start: 100, End: 200, Token: 7, Process: 0},
		{Start: 300, End: 400, Token: 9, Process: 1},
		{Start: 400, End: 500, Token: 9, Process: 1},
		{Start: 600, End: 700, Token: 12, Process: 2},
		{Start: 800, End: 900, Token: 15, Process: 0},
	}
}

func TestRefereeLetsFairPlayPassInAnyOrderOfReports(t *testing.T) {
	for range 20 {
		stays := fairPlay()
		rand.Shuffle(len(stays), func(i, j int) { stays[i], stays[j] = stays[j], stays[i] })
		require.Equal(t, verdict{Holds: 5}, judge(stays, 0, true))
	}
}

func TestRefereeFindsNothingInNothing(t *testing.T) {
	require.Equal(t, verdict{}, judge(nil, 0, true))
}

func TestRefereeCatchesAnOverlapOfTwoProcesses(t *testing.T) {
	stays := fairPlay()
	stays[0].End = 350
	v := judge(stays, 0, true)
	require.False(t, v.ok())
	require.Equal(t, 1, v.Overlaps)
	require.Equal(t, 50*time.Nanosecond, v.Worst)
	require.Contains(t, v.First, "process 1 entered 50ns before process 0 had left")
}

func TestRefereeCatchesAnOverlapInsideAProcess(t *testing.T) {
	stays := fairPlay()
	stays[1].End = 401
	require.Equal(t, 1, judge(stays, time.Hour, true).Overlaps, "one process has one clock: no blur")
}

// A long stay overlaps with all that lie inside it, not only with its neighbour.
func TestRefereeRemembersWhoLeavesLast(t *testing.T) {
	stays := fairPlay()
	stays[0].End = 10_000
	require.Equal(t, 4, judge(stays, 0, false).Overlaps)
}

// Holders that do nothing stay for less than the clocks can tell.
func TestRefereeSeesAShortStayInTheMiddleOfALongOne(t *testing.T) {
	stays := []stay{{Start: 0, End: 20_000, Process: 0}, {Start: 9_000, End: 9_060, Process: 1}}
	require.Equal(t, 1, judge(stays, 400, false).Overlaps)
	stays[1] = stay{Start: 100, End: 160, Process: 1}
	require.True(t, judge(stays, 400, false).ok(), "it may have been before")
	stays[1] = stay{Start: 19_700, End: 19_760, Process: 1}
	require.True(t, judge(stays, 400, false).ok(), "it may have been after")
}

func TestRefereeForgivesWhatTheClocksCannotTell(t *testing.T) {
	stays := fairPlay()
	stays[0].End = 350
	require.True(t, judge(stays, 50, true).ok())
	require.False(t, judge(stays, 49, true).ok())
}

func TestRefereeCatchesAStaleToken(t *testing.T) {
	stays := fairPlay()
	stays[4].Token = 11 // above its own first, but below that of process 2
	v := judge(stays, 0, true)
	require.Equal(t, 1, v.Stale)
	require.False(t, v.ok())
	require.Zero(t, v.Overlaps)
	require.True(t, judge(stays, 0, false).ok(), "some have no tokens")
}

func TestRefereeCatchesATokenThatTwoProcessesShare(t *testing.T) {
	stays := fairPlay()
	stays[3].Token = 9
	require.Equal(t, 1, judge(stays, 0, true).Stale)
}

func TestRefereeCatchesATokenThatFallsInsideAProcess(t *testing.T) {
	stays := fairPlay()
	stays[2].Token = 8
	require.Equal(t, 1, judge(stays, 0, true).Stale)
}

// marks keeps two numbers instead of all; the plain way must agree.
func TestRefereesMarksAgreeWithASearchOfAllEarlierStays(t *testing.T) {
	for range 500 {
		var stays []stay
		for i := range int64(12) {
			stays = append(stays, stay{Start: i * 10, End: i*10 + 5, Token: rand.Int64N(12), Process: rand.IntN(3)})
		}
		stale := 0
		for i, s := range stays {
			for _, earlier := range stays[:i] {
				if earlier.Token > s.Token || earlier.Token == s.Token && earlier.Process != s.Process {
					stale++
					break
				}
			}
		}
		require.Equal(t, stale, judge(stays, 0, true).Stale, "%v", stays)
	}
}
