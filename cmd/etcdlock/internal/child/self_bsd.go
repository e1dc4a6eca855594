//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package child

import "os"

// self is the path by which this program is started again, which is the path of its file at the start.
// If that file is replaced, the next guard and the next command are started from the new file.
func self() (string, error) { return os.Executable() }

// nameSelf does nothing, because the name of the process is already that of the file.
func nameSelf() {}
