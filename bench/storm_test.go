package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPauseIsATimeWithoutAStay(t *testing.T) {
	inner := []stay{{Start: 10, End: 20}, {Start: 12, End: 14}, {Start: 50, End: 60}}
	require.EqualValues(t, 30, pause(inner, 0, 70))
	require.EqualValues(t, 40, pause(inner, 0, 100), "at the end")
	require.EqualValues(t, 110, pause(inner, -100, 70), "at the beginning")
	require.EqualValues(t, time.Second, pause(nil, 0, int64(time.Second)))
}
