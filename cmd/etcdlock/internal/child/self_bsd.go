//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package child

import "os"

// self is the path by which this program is started again: where its file was at the start.
// When that file is replaced, the next guard and the next command are started by the new one.
func self() (string, error) { return os.Executable() }

// nameSelf does nothing: the name is that of the file.
func nameSelf() {}
