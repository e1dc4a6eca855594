package elections

import (
	"os"
	"testing"

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
