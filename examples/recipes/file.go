//go:build unix

package recipes

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/etcdlock/etcdlock/fence"
)

// WriteFile replaces a file if no newer token has written it. A lock on name+".fence" excludes other
// writers from the comparison to the rename; this file has the newest token and is never removed.
// The kernel drops the lock when the process ends. A writer that is stopped in between holds it, so
// the others wait. Use it on local disks: flock of network file systems differs.
func WriteFile(name string, data []byte, token fence.Token) (err error) {
	f, err := os.OpenFile(name+".fence", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return err
	}
	if len(text) > 0 {
		seen := fromSortable(string(text))
		if seen == (fence.Token{}) {
			return fmt.Errorf("%s: %w token %q: restore it from a backup", f.Name(), fence.ErrInvalid, text)
		}
		if token.Less(seen) {
			return &fence.Stale{Resource: name, Token: token, Seen: seen}
		}
	}
	// The claim comes first: a crash between the two leaves a claim without a write. It is
	// written into the locked file itself, padded to one length, as a rename would drop the lock.
	if _, err := f.WriteAt([]byte(sortable(token)), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return replace(name, data)
}

// replace writes the data beside the file and renames it, so that a reader sees all of it or none.
func replace(name string, data []byte) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
