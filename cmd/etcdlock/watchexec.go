package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// onChange runs a shell command for each change of a queue, one after the other. The change is in its
// environment and, as JSON, on its standard input. No part of it is in the text that the shell reads.
func onChange(ctx context.Context, command, name string, ch *queues.Change) error {
	b, err := json.Marshal(text.Legible(ch))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(b, '\n')), os.Stdout, os.Stderr
	e := &ch.Entry
	owner := e.Owner
	if owner == "" {
		owner = e.Value
	}
	cmd.Env = os.Environ()
	for _, v := range [][2]string{
		{"NAME", name}, {"CHANGE", string(ch.What)}, {"REVISION", strconv.FormatInt(ch.Revision, 10)},
		{"OWNER", owner}, {"HOST", e.Host}, {"KEY", e.Key}, {"CREATE_REVISION", strconv.FormatInt(e.CreateRevision, 10)},
	} {
		if !bytes.ContainsRune([]byte(v[1]), 0) { // a value of another client, which no environment can hold
			cmd.Env = append(cmd.Env, "ETCDLOCK_"+v[0]+"="+v[1])
		}
	}
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "etcdlock: --exec at revision %d: %v\n", ch.Revision, err)
	}
	return ctx.Err()
}
