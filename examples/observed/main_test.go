package main

import (
	"os"
	"strings"
	"testing"

	"github.com/etcdlock/etcdlock/examples/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

func TestLocksAreSeen(t *testing.T) {
	p := programtest.Start(t, "-port", "0")
	p.Await("etcdlock.acquire", "queued", "etcdlock.release")
	p.Signal(os.Interrupt)
	code, output := p.Exit()
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	for _, want := range []string{"metrics at http://127.0.0.1:", `msg="lock granted"`, `msg="lock ended"`, "service=billing-2"} {
		if !strings.Contains(output, want) {
			t.Errorf("no %q in\n%s", want, output)
		}
	}
	p.LeavesNothing()
}
