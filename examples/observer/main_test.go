package main

import (
	"os"
	"testing"

	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestLeadersAndVacanciesAreSeen(t *testing.T) {
	p := programtest.Start(t, "-turn", "100ms")
	p.Await("host-a leads", "host-b leads", "nobody leads", "host-a leads")
	p.Signal(os.Interrupt)
	if code, output := p.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}
