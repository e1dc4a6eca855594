package child

import "os"

// self is the path by which this program is started again. The kernel resolves it to the file
// that this process was started from, also when that file was removed or replaced meanwhile. So
// the guard and the starter are always of the wrapper's version.
func self() (string, error) { return "/proc/self/exe", nil }

// nameSelf gives this process the name that ps and pgrep know the program by; after an exec of
// self that would be "exe".
func nameSelf() { _ = os.WriteFile("/proc/self/comm", []byte("etcdlock"), 0) }
