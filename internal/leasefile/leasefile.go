// Package leasefile keeps a lease ID in a file for the next process. The kernel holds the lock on
// the file (flock) for as long as the process that has the lease lives.
package leasefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// ErrInUse is returned by Lock when another process has the file until ctx ends. On systems
// without flock the error is errors.ErrUnsupported.
var ErrInUse = errors.New("lease file in use by another process")

// File is a lease file that is locked by this process. A nil File does nothing on Close.
type File struct{ file *os.File }

// lockPause is the pause between two tries to lock a file.
const lockPause = 20 * time.Millisecond

// Lock opens the file, creates it if there is none, and waits until no other process has it. It calls
// waiting once if it has to wait.
func Lock(ctx context.Context, path string, waiting func()) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lease file: %w", err)
	}
	for told := false; ; told = true {
		switch free, err := flock(f); {
		case err != nil:
			_ = f.Close()
			return nil, fmt.Errorf("lock lease file %s: %w", path, err)
		case free:
			return &File{f}, nil
		case !told:
			waiting()
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("%w: %s", ErrInUse, path)
		}
	}
}

// TryLock opens and locks an existing file. It returns nil if there is no file, or if another File of
// this or another process has locked it.
func TryLock(path string) *File {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	if free, err := flock(f); err != nil || !free {
		_ = f.Close()
		return nil
	}
	return &File{f}
}

// Read returns the lease in the file, 0 if the file has none or other content.
func (f *File) Read() int64 {
	b := make([]byte, size)
	n, err := f.file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(b[:n])), 16, 63)
	if err != nil {
		return 0
	}
	return int64(id)
}

// size is the length of each content: 16 digits and a new line.
const size = 17

// Write puts a lease into the file, 0 for none. It is one write of a constant length, so a process
// that is killed has written all of it or nothing. A file that a crash of the machine has damaged
// does no harm: the machine was away for longer than a TTL, or etcd knows the lease.
func (f *File) Write(id int64) error {
	_, err := f.file.WriteAt(fmt.Appendf(nil, "%016x\n", uint64(id)), 0)
	return err
}

// Close lets the next process have the file.
func (f *File) Close() {
	if f != nil {
		_ = f.file.Close() // and with it the lock
	}
}
