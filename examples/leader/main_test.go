package main

import (
	"os"
	"testing"

	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestALeaderThatIsStoppedResigns(t *testing.T) {
	p := programtest.Start(t, "-id", "host-a", "-every", "10ms")
	p.Await("host-a leads with token", "host-a works: job 3")
	p.Signal(os.Interrupt)
	p.Await("host-a leads no more", "host-a has resigned")
	if code, output := p.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}

func TestTheNextInstanceTakesOver(t *testing.T) {
	server, err := devetcd.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := programtest.Start(t, "-endpoints", server.Endpoint(), "-id", "host-a", "-every", "10ms")
	a.Await("host-a works: job 1")
	b := programtest.Start(t, "-endpoints", server.Endpoint(), "-id", "host-b", "-every", "10ms")
	b.Await("host-b is a candidate")
	a.Signal(os.Interrupt)
	b.Await("host-b works: job 1")
	b.Signal(os.Interrupt)
	for _, p := range []*programtest.Process{a, b} {
		if code, output := p.Exit(); code != 0 {
			t.Errorf("exit code %d\n%s", code, output)
		}
	}
}
