package main

import (
	"os"
	"testing"

	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestWritesFollowThePrimary(t *testing.T) {
	p := programtest.Start(t, "-turn", "1s")
	for range 2 {
		p.Await("is leading", "written by", "steps down", "is leading", "written by")
	}
	p.Signal(os.Interrupt)
	if code, output := p.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}
