package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// Faults of the disks below the members, on the unmodified etcd.
func onDisks() []*nemesis {
	return []*nemesis{
		{name: "full-disk", about: "the file system of one member (tmpfs) is filled until it ends, then cleared", strike: fillDisk, disks: smallDisk},
		{name: "slow-fsync", about: "each fsync of the raft leader takes longer (FUSE), in turn by 0.2 s and by 1.5 s", strike: slowFsync, disks: slowDisks},
	}
}

// errNoMount: the machine does not let us; the nemesis is skipped and says so.
var errNoMount = errors.New("needs the right to mount")

// disks is where the members keep their data, other than on the disk.
type disks struct {
	small string        // a file system of one member by itself
	slow  []interface { // one for each member
		Delay(time.Duration)
		Delayed() int64
	}
	dir   func(member int) string
	close func()
}

const smallDiskSize = 224 << 20 // etcd keeps two files of 64 MiB for its log

// fillDisk fills what is left. etcd has reserved the space of its log; it is the pages
// of its database that find none, so something is written until that happens.
func fillDisk(ctx context.Context, s *scene) error {
	m := s.cluster.Members[0]
	admin, err := s.cluster.Client(s.cluster.Members[1].Endpoint, s.cluster.Members[2].Endpoint)
	if err != nil {
		return err
	}
	defer admin.Close()
	s.begin()
	ballast := filepath.Join(s.onDisks.small, "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	press(ctx, admin, m, s.ttl)
	if m.Running() {
		s.note("the member did not end on a full disk")
	} else {
		s.note("the member ended: %s", reason(m.LastWords()))
	}
	s.lasts(ctx, s.ttl+time.Second)
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if _, err := admin.Delete(ctx, pressure); err != nil {
		return err
	}
	if m.Running() {
		s.healed()
		return nil
	}
	return s.restart(ctx, m)
}

// reason is the error that a line of etcd's log tells of.
func reason(log string) string {
	line := log[strings.LastIndexByte(log, '\n')+1:]
	var told struct{ Msg, Error string }
	if json.Unmarshal([]byte(line), &told) != nil {
		return line
	}
	return strings.Trim(told.Msg+": "+told.Error, ": ")
}

const pressure = "chaos-pressure"

// press writes until the member has ended, or for some time.
func press(ctx context.Context, admin *clientv3.Client, m *etcdproc.Member, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for ctx.Err() == nil && m.Running() {
		_, _ = admin.Put(ctx, pressure, string(make([]byte, 256<<10)))
		wait(ctx, 5*time.Millisecond)
	}
}

// fill writes a file until there is no space left.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			if len(block) == 1 {
				return nil
			}
			block = block[:max(1, len(block)/16)]
		} else if err != nil {
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
}

func slowFsync(ctx context.Context, s *scene) error {
	by := 200 * time.Millisecond
	if s.round%2 == 1 {
		by = 1500 * time.Millisecond // longer than the others wait for a leader
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	for i, m := range s.cluster.Members {
		if m != leader {
			continue
		}
		d := s.onDisks.slow[i]
		before := d.Delayed()
		s.begin()
		d.Delay(by)
		s.lasts(ctx, s.ttl+2*time.Second)
		d.Delay(0)
		s.note("%d fsyncs took %v longer", d.Delayed()-before, by)
		if err := s.ready(ctx, m); err != nil {
			return err
		}
		s.healed()
	}
	return nil
}
