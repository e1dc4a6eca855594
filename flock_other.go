//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package etcdlock

import (
	"fmt"
	"os"
)

func flock(*os.File) (bool, error) {
	return false, fmt.Errorf("%w: lease files need flock, which this system has not", ErrInvalidOption)
}
