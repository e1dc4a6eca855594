package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/etcdlock/etcdlock"
)

// health is a shell command by which a candidate is well or not.
type health struct {
	command  string
	interval time.Duration
	failures int
}

func (h *health) addFlags(f *pflag.FlagSet) {
	f.StringVar(&h.command, "health", "", "shell command that has to succeed for taking part, and for leading on")
	f.DurationVar(&h.interval, "health-interval", 5*time.Second, "how often it is run, and how long it may take")
	f.IntVar(&h.failures, "health-failures", 3, "after how many failures in a row it counts")
}

func (h *health) check() error {
	if h.interval <= 0 || h.failures <= 0 {
		return usagef("--health-interval and --health-failures are above 0")
	}
	return nil
}

func (h *health) options(name string) []etcdlock.RunOption {
	if h.command == "" {
		return nil
	}
	return []etcdlock.RunOption{etcdlock.WithHealthCheck(h.interval, h.failures, func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", h.command)
		cmd.Env = append(os.Environ(), "ETCDLOCK_NAME="+name)
		inOwnGroup(cmd)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("--health: %w: %s", err, strings.TrimSpace(printable(string(out))))
		}
		return nil
	})}
}
