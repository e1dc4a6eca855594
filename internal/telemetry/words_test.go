package telemetry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/lockerr"
)

func TestWhyTheWorkOfATermHasEnded(t *testing.T) {
	word := func(err error) string { return "<" + err.Error() + ">" }
	fault := errors.New("the database is gone")
	for want, e := range map[string][3]error{ // told, lost, returned
		returned:                                 {},
		failed:                                   {nil, nil, fault},
		resigned:                                 {lockerr.ErrReleased, lockerr.ErrReleased, fault},
		transferred:                              {ErrTransferred, lockerr.ErrReleased, nil},
		"<unhealthy>":                            {lockerr.ErrUnhealthy, lockerr.ErrReleased, nil},
		"<lost: another client deleted its key>": {nil, lockerr.Lost(lockerr.ErrEvicted), context.Canceled},
	} {
		require.Equal(t, want, TermEnd(e[0], e[1], e[2], word))
	}
}

func TestTheFirstNamesHaveSeriesOfTheirOwn(t *testing.T) {
	var n Names
	for i := range MaxNames {
		name := string(rune('a' + i))
		require.Equal(t, name, n.Label(name))
	}
	require.Equal(t, Other, n.Label("one more"))
	require.Equal(t, "a", n.Label("a"))
	n = Names{}
	require.Equal(t, "e\uFFFD", n.Label("e\xff"))
}

// The longest call and hold are known for a minute after they have ended.
func TestTheLongestCallAndHold(t *testing.T) {
	a := NewAges[string]()
	ctx := a.Begin(t.Context(), "mutex")
	time.Sleep(10 * time.Millisecond)
	require.GreaterOrEqual(t, a.Read()["mutex"].OldestCall, 10*time.Millisecond)
	require.Zero(t, a.Read()["mutex"].LongestCall)
	a.Granted(ctx)
	got := a.Read()["mutex"]
	require.Zero(t, got.OldestCall)
	require.GreaterOrEqual(t, got.LongestCall, 10*time.Millisecond)
	time.Sleep(10 * time.Millisecond)
	a.End(ctx)
	a.End(ctx)
	got = a.Read()["mutex"]
	require.Zero(t, got.OldestHold)
	require.GreaterOrEqual(t, got.LongestHold, 10*time.Millisecond)
}

func TestATermIsStuckUntilItsWorkReturns(t *testing.T) {
	var s Stuck
	require.False(t, s.Returned("e", 1))
	s.Add("e", 1)
	s.Add("e", 1) // of another cluster
	require.False(t, s.Returned("e", 2))
	require.True(t, s.Returned("e", 1))
	require.True(t, s.Returned("e", 1))
	require.False(t, s.Returned("e", 1))
}
