package simetcd_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// simulate runs a test in a bubble with a server of its own.
func simulate(t *testing.T, cfg simetcd.Config, test func(t *testing.T, srv *simetcd.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := simetcd.New(cfg)
		defer srv.Close()
		test(t, srv)
	})
}

// within gives a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}
