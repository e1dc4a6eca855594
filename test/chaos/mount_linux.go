package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/etcdlock/etcdlock/test/internal/slowdisk"
)

// namespace has a process run in a mount namespace of its own, where mounting is
// allowed and ends with the process, however it ends. Without the right to that, the
// program goes on as it is, and the nemeses that mount are skipped.
func namespace(attr *syscall.SysProcAttr) {
	attr.Unshareflags = syscall.CLONE_NEWNS
	if os.Geteuid() == 0 {
		return
	}
	attr.Cloneflags = syscall.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
}

// smallDisk gives the first member a small file system.
func smallDisk(s *scene) (*disks, error) {
	at := filepath.Join(s.dir, "small")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("chaos", at, "tmpfs", 0, fmt.Sprintf("size=%d", smallDiskSize)); err != nil {
		return nil, fmt.Errorf("%w a tmpfs: %w", errNoMount, err)
	}
	return &disks{
		small: at,
		dir: func(i int) string {
			if i == 0 {
				return filepath.Join(at, "data")
			}
			return filepath.Join(s.dir, fmt.Sprintf("data-%d", i))
		},
		close: func() { _ = syscall.Unmount(at, syscall.MNT_DETACH) },
	}, nil
}

// slowDisks gives each member a file system with an fsync that can be slowed down.
func slowDisks(s *scene) (*disks, error) {
	d := &disks{dir: func(i int) string { return filepath.Join(s.dir, fmt.Sprintf("slow-%d", i), "data") }}
	var mounted []*slowdisk.Disk
	d.close = func() {
		for i, m := range mounted {
			if m.Unmount() != nil {
				_ = syscall.Unmount(filepath.Dir(d.dir(i)), syscall.MNT_DETACH)
			}
		}
	}
	for i := range members {
		behind := filepath.Join(s.dir, fmt.Sprintf("behind-%d", i))
		at := filepath.Dir(d.dir(i))
		for _, dir := range []string{behind, at} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, err
			}
		}
		disk, err := slowdisk.Mount(behind, at)
		if err != nil {
			d.close()
			return nil, fmt.Errorf("%w a FUSE file system: %w", errNoMount, err)
		}
		mounted = append(mounted, disk)
		d.slow = append(d.slow, disk)
	}
	return d, nil
}
