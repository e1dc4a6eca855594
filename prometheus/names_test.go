package promlock_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	promlock "github.com/etcdlock/etcdlock/prometheus"
)

func TestNamesThatAreNoUTF8(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		m, ctx := promlock.New(), t.Context()
		s, err := etcdlock.NewSession(ctx, etcd.Process("a").Client(), etcdlock.WithTrace(m.Trace()))
		require.NoError(t, err)
		term, err := etcdlock.NewElection(s, "e\xff").Campaign(ctx, "v")
		require.NoError(t, err)
		require.NoError(t, term.Resign(ctx))
		require.NoError(t, s.Close(ctx))
	})
	m := promlock.New(promlock.WithNames(func(n string) string { return n[:1] })) // inside of a character
	m.Trace().AcquireStart(context.Background(), etcdlock.AcquireStartInfo{Kind: etcdlock.KindMutex, Name: "école"})
	require.Contains(t, scrape(t, m), "\uFFFD")
}

func TestElectionsWithoutSeriesOfTheirOwnCountNoChanges(t *testing.T) {
	m := promlock.New()
	trace := m.Trace()
	for i := range promlock.MaxNames + 10 {
		trace.LeaderSeen(context.Background(), etcdlock.LeaderSeenInfo{
			Election: fmt.Sprint("e", i), Leader: etcdlock.Leader{Key: "k", CreateRevision: int64(i + 1)},
		})
	}
	require.NotRegexp(t, `changes_total\{.*_other_.*\} [1-9]`, scrape(t, m))
}
