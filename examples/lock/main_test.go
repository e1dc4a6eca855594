package main

import (
	"testing"

	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestBothKindsOfFencingRefuseTheLateWrite(t *testing.T) {
	p := programtest.Start(t)
	p.Await(
		"alice withdraws 30 with token", // accepted: the next line follows
		"alice is told: ",
		"bob withdraws 50 with token",
		": refused: token ",
		"bob writes 20 to etcd: written true",
		"bob writes 10 to etcd after Unlock: written false",
	)
	if code, output := p.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}
