package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAHandoverIsFromUnlockToTheNextGrant(t *testing.T) {
	at := func(µs int) time.Time { return time.Unix(0, 0).Add(time.Duration(µs) * time.Microsecond) }
	ts := &turns{list: []turn{{at(0), at(500)}, {at(510), at(520)}, {at(550), at(560)}}}
	require.Equal(t, []float64{10, 30}, ts.handovers())
	require.Empty(t, (&turns{}).handovers())
}

func TestTheFloorOfACrowdIsMeasuredBesideIt(t *testing.T) {
	b := newBook()
	at := spot{"processes", 1, crowd{processes: 2, callers: 1}.String(), theFloor, perSecond}
	b.add(at, "1/s", high, 1000)
	at.Contestant = theLibrary
	b.add(at, "1/s", high, 450)
	part, known := crowdRatio("processes", crowd{processes: 2, callers: 1}, theFloor)(b)
	require.True(t, known)
	require.InDelta(t, 0.45, part, 1e-9)
	require.Equal(t, "512 clients in 4 processes", crowd{processes: 4, callers: 128, clients: true}.String())
}
