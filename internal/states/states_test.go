package states_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/states"
)

func TestATableRefusesEachEdgeThatItDoesNotHave(t *testing.T) {
	var refused []error
	states.Refused = func(err error) { refused = append(refused, err) }
	defer func() { states.Refused = func(error) {} }()
	doors := states.Table[string]{Of: "door", Edges: map[string][]string{"open": {"shut"}, "shut": {"open", "locked"}}}
	require.NoError(t, doors.Check("open", "shut"))
	require.NoError(t, doors.Check("shut", "locked"))
	require.Empty(t, refused)

	for _, illegal := range [][2]string{{"open", "locked"}, {"open", "open"}, {"locked", "open"}, {"", "open"}} {
		err := doors.Check(illegal[0], illegal[1])
		var edge *states.EdgeError
		require.ErrorAs(t, err, &edge)
		require.Equal(t, states.EdgeError{Of: "door", From: illegal[0], To: illegal[1]}, *edge)
	}
	require.Len(t, refused, 4)
	require.EqualError(t, refused[0], "bug in etcdlock: illegal state change of the door from open to locked")
}
