package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Parent and processes talk in lines: an event in JSON is one line of a
// process' standard output, a command one line of its standard input.

// event is what a process reports.
type event struct {
	Kind   string `json:"kind"`
	Token  int64  `json:"token,omitempty"`
	Reason string `json:"reason,omitempty"` // why something was lost or refused
}

// Kinds of events.
const (
	ready    = "ready"    // worker: waits for a command
	finished = "finished" // worker: the command is done
	leads    = "leads"    // candidate: a term began, with Token
	resigned = "resigned" // candidate: gave the term back and ends
	holds    = "holds"    // holder: has the lock, with Token
	lost     = "lost"     // holder: was told that the lock is lost, with Reason
	written  = "written"  // holder: the resource took the write with Token
	refused  = "refused"  // holder: the resource refused it, with Reason
	released = "released" // holder: unlocked
	failed   = "failed"   // any: ends because of Reason
)

// console is a process' end of the conversation.
type console struct {
	commands chan string

	mu  sync.Mutex
	out *json.Encoder
}

// openConsole reads commands from in. The end of in means that the parent is
// gone: then orphaned is called, so that no process outlives the demo.
func openConsole(in io.Reader, out io.Writer, orphaned func()) *console {
	c := &console{commands: make(chan string), out: json.NewEncoder(out)}
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			c.commands <- lines.Text()
		}
		orphaned()
	}()
	return c
}

// report tells the parent. When the parent cannot be told it is gone, and
// openConsole sees to that.
func (c *console) report(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.out.Encode(e)
}

// await returns when the parent sends the command.
func (c *console) await(ctx context.Context, command string) error {
	select {
	case got := <-c.commands:
		if got != command {
			return fmt.Errorf("told to %q instead of %q", got, command)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
