package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) {
	// A machine that stands still for a moment must not end a lease, nor break a promise about time.
	ttl, expirySlack, patience = 6*time.Second, time.Minute, 5*time.Minute
	programtest.Main(m, main)
}

func TestEveryPromiseIsKept(t *testing.T) {
	p := start(t)
	code, output := p.Exit()
	if code != 0 || strings.Contains(output, "FAILED") || strings.Count(output, "   OK ") != 9 {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}

// At the moment at which one of the processes is suspended: that one is the
// hardest to end.
func TestCtrlCEndsEveryProcess(t *testing.T) {
	p := start(t)
	p.Await("kill -STOP")
	p.Signal(os.Interrupt)
	code, output := p.Exit()
	if code != 1 || !strings.Contains(output, "FAILED the demo did not come to its end") {
		t.Errorf("exit code %d\n%s", code, output)
	}
	p.LeavesNothing()
}

func TestNoProcessOutlivesAKilledDemo(t *testing.T) {
	p := start(t)
	p.Await("kill -STOP")
	p.Signal(os.Kill)
	p.Exit() // fails when a process is left
}

func TestAnUnknownArgumentIsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-v"}, {"worker"}, {"nobody", "a", "b", "c"}} {
		if code, output := programtest.Start(t, args...).Exit(); code != 2 || !strings.Contains(output, "takes no arguments") {
			t.Errorf("%q: exit code %d\n%s", args, code, output)
		}
	}
}

func start(t *testing.T) *programtest.Process {
	t.Helper()
	if testing.Short() {
		t.Skip("takes about 20 seconds")
	}
	t.Parallel()
	return programtest.Start(t)
}
