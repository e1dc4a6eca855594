package main

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdlock/etcdlock/examples/internal/devetcd"
	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestTheJobThatRunsIsFinishedBeforeTheNextInstanceTakesOver(t *testing.T) {
	server, err := devetcd.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	// A leader that makes no progress for ten times as long as both durations loses its term, and
	// gives up its job. That has to be longer than a busy machine may stand still.
	a := programtest.Start(t, "-endpoints", server.Endpoint(), "-id", "host-a", "-every", "500ms", "-takes", "500ms")
	a.Await("host-a is leading", "host-a begins job 2")
	b := programtest.Start(t, "-endpoints", server.Endpoint(), "-id", "host-b", "-every", "1s", "-takes", "5ms", "-http", "127.0.0.1:0")
	b.Await("probes at http://127.0.0.1:", "host-b is candidate")
	a.Signal(os.Interrupt)
	a.Await("host-a has done job", "host-a leads no more", "host-a stops in order")
	b.Await("host-b is leading", "host-b has done job 3")
	b.Signal(os.Interrupt)
	for _, p := range []*programtest.Process{a, b} {
		code, output := p.Exit()
		if code != 0 {
			t.Errorf("exit code %d\n%s", code, output)
		}
		if begun, done := strings.Count(output, "begins job"), strings.Count(output, "has done job"); begun != done {
			t.Errorf("%d jobs begun, %d done\n%s", begun, done, output)
		}
	}
}

func TestTheSchedulerNeedsNoEtcd(t *testing.T) {
	p := programtest.Start(t, "-id", "host-a", "-every", "500ms", "-takes", "5ms")
	p.Await("host-a is leading", "host-a has done job 3")
	p.Signal(os.Interrupt)
	p.Await("host-a stops in order")
	if code, output := p.Exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}
