package liveness

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A refusal is recognised on a real network, too.
func TestARefusalIsRecognised(t *testing.T) {
	l, err := Listen(TCP{}, "127.0.0.1:0", "host")
	require.NoError(t, err)
	_, d := New(Config{}, l)
	require.True(t, d.isComparable(l.own))
	address := l.own.Address
	type result struct{ lived, dead bool }
	probed := make(chan result, 1)
	go func() {
		lived, dead := d.probe(t.Context(), address)
		probed <- result{lived, dead}
	}()
	require.Eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.conns) == 1 }, 5*time.Second, time.Millisecond)
	require.Empty(t, probed, "it is kept while both live")
	l.Close()
	require.Equal(t, result{lived: true}, <-probed)
	lived, dead := d.probe(t.Context(), address)
	require.Equal(t, result{dead: true}, result{lived, dead})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lived, dead = d.probe(ctx, address)
	require.Equal(t, result{}, result{lived, dead})
}

func TestAListenerIsClosedWithItsLastShare(t *testing.T) {
	l, err := Listen(TCP{}, "127.0.0.1:0", "host")
	require.NoError(t, err)
	other := l.Share()
	l.Close()
	l.Close()
	c, err := TCP{}.Dial(t.Context(), l.own.Address)
	require.NoError(t, err, "a second Close gives up no share of another session")
	require.NoError(t, c.Close())
	other.Close()
	_, err = TCP{}.Dial(t.Context(), l.own.Address)
	require.Error(t, err)

	var none *Listener
	require.Nil(t, none.Share())
	none.Close()
}
