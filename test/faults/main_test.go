package faults

import (
	"os"
	"testing"

	"go.etcd.io/etcd/tests/v3/framework/integration"

	"github.com/etcdlock/etcdlock/test/internal/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// fixture is a cluster of the test's own.
type fixture struct {
	*cluster.Fixture
	t *testing.T
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{cluster.New(t), t}
}

func newFixtureOf(t *testing.T, cfg *integration.ClusterConfig) *fixture {
	t.Helper()
	return &fixture{cluster.NewOf(t, cfg), t}
}
