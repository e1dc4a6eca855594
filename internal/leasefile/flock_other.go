//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package leasefile

import (
	"errors"
	"fmt"
	"os"
)

func flock(*os.File) (bool, error) {
	return false, fmt.Errorf("%w: lease files need flock, which this system lacks", errors.ErrUnsupported)
}
