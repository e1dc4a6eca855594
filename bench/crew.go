package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcdlock/etcdlock/internal/procs"
)

// crew is the worker processes. They stay from one contention to the next.
type crew struct {
	kids *procs.Children
	all  []*hand
}

// hand is one of them, as this process sees it.
type hand struct {
	*procs.Child
	stdin   io.WriteCloser
	replies *json.Decoder
}

func hire(kids *procs.Children) (*hand, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "worker")
	cmd.Stderr = os.Stderr
	p, stdin, out, err := kids.Talk(cmd)
	if err != nil {
		return nil, err
	}
	return &hand{p, stdin, json.NewDecoder(out)}, nil
}

// tell gives an order and waits for the answer.
func (h *hand) tell(o order) (reply, error) {
	if err := json.NewEncoder(h.stdin).Encode(o); err != nil {
		return reply{}, fmt.Errorf("tell worker %d to %s: %w", o.Process, o.Do, err)
	}
	var r reply
	if err := h.replies.Decode(&r); err != nil {
		return reply{}, fmt.Errorf("worker %d was told to %s: %w", o.Process, o.Do, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("worker %d, %s %s: %s", o.Process, o.Contestant, o.Do, r.Error)
	}
	return r, nil
}

// dismiss ends a worker in order.
func (h *hand) dismiss() {
	_ = h.stdin.Close()
	select {
	case <-h.Gone():
	case <-time.After(3 * time.Second):
		h.Kill()
	}
}

// grow sees to it that there are n workers.
func (c *crew) grow(n int) error {
	for len(c.all) < n {
		h, err := hire(c.kids)
		if err != nil {
			return err
		}
		c.all = append(c.all, h)
	}
	return nil
}

// tell gives an order to the first n workers at once, and waits for all.
func (c *crew) tell(n int, o order) ([]reply, error) {
	if err := c.grow(n); err != nil {
		return nil, err
	}
	replies := make([]reply, n)
	var all errgroup.Group
	for i, h := range c.all[:n] {
		o := o
		o.Process = i
		if o.File != "" {
			o.File = fmt.Sprintf("%s-%d", o.File, i)
		}
		if o.Profile != "" {
			o.Profile = fmt.Sprintf("%s-%d", o.Profile, i)
		}
		all.Go(func() (err error) {
			replies[i], err = h.tell(o)
			return err
		})
	}
	return replies, all.Wait()
}

func (c *crew) dismiss() {
	var all errgroup.Group
	for _, h := range c.all {
		all.Go(func() error { h.dismiss(); return nil })
	}
	_ = all.Wait()
	c.all = nil
}
