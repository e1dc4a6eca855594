package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/child"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// health has the flags of the health check of a candidate, which is a shell command.
type health struct {
	command  string
	interval time.Duration
	failures int
}

func (h *health) addFlags(f *pflag.FlagSet) {
	f.StringVar(&h.command, "health", "", "shell command; this candidate campaigns and leads only while it succeeds")
	durationVar(f, &h.interval, "health-interval", "", 5*time.Second, "time between two checks, and the longest time for one")
	f.IntVar(&h.failures, "health-failures", 3, "number of consecutive failures that make this candidate resign or stop waiting")
}

func (h *health) check() error {
	if h.interval <= 0 || h.failures <= 0 {
		return usagef("--health-interval and --health-failures must be above 0")
	}
	return nil
}

func (h *health) options(name string) []etcdlock.RunOption {
	if h.command == "" {
		return nil
	}
	var told verdict
	return []etcdlock.RunOption{etcdlock.WithHealthCheck(etcdlock.HealthCheck{Interval: h.interval, Failures: h.failures, Check: func(ctx context.Context) (err error) {
		defer func() {
			if !errors.Is(ctx.Err(), context.Canceled) { // after a cancellation etcdlock is ending
				told.tell(name, h.failures, err)
			}
		}()
		cmd := exec.CommandContext(ctx, "sh", "-c", h.command)
		cmd.Env = append(os.Environ(), "ETCDLOCK_NAME="+name)
		inOwnGroup(cmd)
		cmd.WaitDelay = time.Second
		out, err := child.CombinedOutput(cmd)
		if err != nil {
			return fmt.Errorf("--health: %w: %s", err, printable(strings.TrimSpace(string(out))))
		}
		return nil
	}})}
}

// verdict prints a line for each change of the health of a candidate.
type verdict struct {
	mu     sync.Mutex
	failed int // number of consecutive failures
}

func (v *verdict) tell(name string, counts int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err == nil && v.failed > 0:
		fmt.Fprintf(os.Stderr, "etcdlock: %s: --health succeeds again\n", wire.Quote(name))
		v.failed = 0
	case err != nil:
		v.failed++
		switch v.failed {
		case counts:
			fmt.Fprintf(os.Stderr, "etcdlock: %s: not campaigning until --health succeeds; it has failed %d times in a row: %s\n", wire.Quote(name), counts, cause(err))
		case 1:
			fmt.Fprintf(os.Stderr, "etcdlock: %s: --health has failed once, and counts after %d failures in a row: %s\n", wire.Quote(name), counts, cause(err))
		}
	}
}

// cause is the text of a failed check, without the flag at its beginning.
func cause(err error) string {
	return strings.TrimSuffix(strings.TrimPrefix(err.Error(), "--health: "), ": ")
}
