//go:build linux

// Package slowdisk shows a directory at another place, as a file system (FUSE) on
// which fsync takes longer. The programs on it are real and do not know; the data
// really gets to the disk, only later.
package slowdisk

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is a mounted directory.
type Disk struct {
	server *fuse.Server
	delay  atomic.Int64 // of each fsync, in nanoseconds
	syncs  atomic.Int64 // how many were delayed
}

// Mount shows the directory behind at the directory at, until Unmount. It needs the
// right to mount, in this mount namespace, and /dev/fuse.
func Mount(behind, at string) (*Disk, error) {
	root, err := fs.NewLoopbackRoot(behind)
	if err != nil {
		return nil, fmt.Errorf("slowdisk: %s: %w", behind, err)
	}
	d := &Disk{}
	server, err := fs.Mount(at, d.node(root), &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "slowdisk", Name: "slowdisk"},
	})
	if err != nil {
		return nil, fmt.Errorf("slowdisk: mount: %w", err)
	}
	d.server = server
	return d, nil
}

// Delay makes every fsync and fdatasync from now on take that much longer.
func (d *Disk) Delay(by time.Duration) { d.delay.Store(int64(by)) }

// Delayed is how many were, so far.
func (d *Disk) Delayed() int64 { return d.syncs.Load() }

// Unmount ends it; an error if a program still has a file open.
func (d *Disk) Unmount() error { return d.server.Unmount() }

// node is a file or directory. Only what it opens is of our own make.
type node struct {
	*fs.LoopbackNode
	disk *Disk
}

func (d *Disk) node(of fs.InodeEmbedder) *node { return &node{of.(*fs.LoopbackNode), d} }

// WrapChild makes a node of ours of what is found in a directory.
func (n *node) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return n.disk.node(child)
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, with, errno := n.LoopbackNode.Open(ctx, flags)
	return n.disk.wrap(f), with, errno
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, f, with, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, n.disk.wrap(f), with, errno
}

func (d *Disk) wrap(f fs.FileHandle) fs.FileHandle {
	if loop, ok := f.(*fs.LoopbackFile); ok {
		return &file{LoopbackFile: loop, disk: d}
	}
	return f
}

type file struct {
	*fs.LoopbackFile
	disk *Disk
}

func (f *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if by := time.Duration(f.disk.delay.Load()); by > 0 {
		f.disk.syncs.Add(1)
		time.Sleep(by)
	}
	return f.LoopbackFile.Fsync(ctx, flags)
}
