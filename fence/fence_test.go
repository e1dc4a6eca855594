package fence_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/fence"
)

const account = "accounts/7"

type hold int64

func (h hold) Token() int64 { return int64(h) }

func TestTokensAreOrderedByEpochAndThenByValue(t *testing.T) {
	inOrder := []fence.Token{{Value: 1}, {Value: 2}, {Value: math.MaxInt64}, {Epoch: 1, Value: 1}, {Epoch: 1, Value: 2}, {Epoch: 2, Value: 1}}
	for i, a := range inOrder {
		for j, b := range inOrder {
			require.Equal(t, i < j, a.Less(b), "%v < %v", a, b)
		}
	}
	require.Equal(t, fence.Token{Epoch: 3, Value: 4711}, fence.Of(hold(4711), 3))
}

// A number above 2^53 is a string in JSON, because many readers round it otherwise.
func TestATokenIsTheSameAfterText(t *testing.T) {
	for _, token := range []fence.Token{{Value: 4711}, {Epoch: 2, Value: 1<<53 + 1}, {Epoch: math.MaxInt64, Value: math.MaxInt64}} {
		parsed, err := fence.Parse(token.String())
		require.NoError(t, err)
		require.Equal(t, token, parsed)

		text, err := json.Marshal(map[string]fence.Token{"token": token})
		require.NoError(t, err)
		require.JSONEq(t, fmt.Sprintf(`{"token": %q}`, token), string(text))
		var read map[string]fence.Token
		require.NoError(t, json.Unmarshal(text, &read))
		require.Equal(t, token, read["token"])
	}
}

// The variable ETCDLOCK_TOKEN has the value alone.
func TestANumberAloneIsAValueOfEpochZero(t *testing.T) {
	token, err := fence.Parse("4711")
	require.NoError(t, err)
	require.Equal(t, fence.Token{Value: 4711}, token)
}

func TestNothingElseIsAToken(t *testing.T) {
	for _, s := range []string{"", ".", "0.", ".1", "0.0", "0", "-1", "1.-1", "+1", "01", "0.01", " 1", "1 ", "1.2.3", "0x1", "1e3",
		"9223372036854775808", "0.9223372036854775808", "１"} {
		_, err := fence.Parse(s)
		require.ErrorIs(t, err, fence.ErrInvalid, "%q", s)
	}
	token := fence.Token{Epoch: 1, Value: 2}
	require.ErrorIs(t, token.UnmarshalText([]byte("x")), fence.ErrInvalid)
	require.Equal(t, fence.Token{Epoch: 1, Value: 2}, token, "unchanged after an error")
}

// Pitfall 1: a holder writes more than once.
func TestAnEqualTokenIsAcceptedAndAnOlderOneRefused(t *testing.T) {
	m := fence.NewMemory()
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 5}))
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 5}))
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 9}))
	err := m.Check(t.Context(), account, fence.Token{Value: 5})
	require.ErrorIs(t, err, fence.ErrStale)
	var stale *fence.Stale
	require.ErrorAs(t, err, &stale)
	require.Equal(t, &fence.Stale{Resource: account, Token: fence.Token{Value: 5}, Seen: fence.Token{Value: 9}}, stale)
	require.NoError(t, m.Check(t.Context(), "accounts/8", fence.Token{Value: 5}), "another resource")
}

// Pitfall 6: tokens go back with a restored etcd, and the epoch puts the new ones in front.
func TestANewEpochRefusesEveryTokenOfTheOldOne(t *testing.T) {
	m := fence.NewMemory()
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 19134}))
	require.ErrorIs(t, m.Check(t.Context(), account, fence.Token{Value: 2}), fence.ErrStale)
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Epoch: 1, Value: 2}))
	require.ErrorIs(t, m.Check(t.Context(), account, fence.Token{Value: 20000}), fence.ErrStale)
}

// Pitfall 4: two locks have tokens of one etcd, so their holders refuse each other in turn.
func TestOneResourceUnderTwoLocksRefusesAHolder(t *testing.T) {
	m := fence.NewMemory()
	transfers, reports := fence.Token{Value: 5}, fence.Token{Value: 9}
	require.NoError(t, m.Check(t.Context(), account, transfers))
	require.NoError(t, m.Check(t.Context(), account, reports))
	require.ErrorIs(t, m.Check(t.Context(), account, transfers), fence.ErrStale, "though it holds its lock")
}

// Pitfall 8: a process that keeps the newest token in memory forgets it.
func TestARestartedMemoryAcceptsAStaleToken(t *testing.T) {
	m := fence.NewMemory()
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 9}))
	m = fence.NewMemory()
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 5}))
}

// The zero value of a handle has the token 0, which must not pass for an old one or a new one.
func TestWhatIsNoTokenOrNoResourceIsInvalid(t *testing.T) {
	m := fence.NewMemory()
	require.NoError(t, m.Check(t.Context(), strings.Repeat("a", fence.MaxResource), fence.Token{Value: 1}))
	for _, token := range []fence.Token{{}, {Epoch: 1}, {Value: -1}, {Epoch: -1, Value: 1}} {
		require.ErrorIs(t, m.Check(t.Context(), account, token), fence.ErrInvalid)
	}
	for _, resource := range []string{"", strings.Repeat("a", fence.MaxResource+1)} {
		require.ErrorIs(t, m.Check(t.Context(), resource, fence.Token{Value: 1}), fence.ErrInvalid)
	}
}

func TestOfManyClaimsAtOnceTheNewestStands(t *testing.T) {
	m := fence.NewMemory()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { _ = m.Check(t.Context(), account, fence.Token{Value: int64(i + 1)}) })
	}
	wg.Wait()
	require.NoError(t, m.Check(t.Context(), account, fence.Token{Value: 100}))
	require.ErrorIs(t, m.Check(t.Context(), account, fence.Token{Value: 99}), fence.ErrStale)
}
