package child

import "os"

// self is the path by which this program is started again. The kernel resolves it to the file that
// this process was started from, even if that file was removed or replaced. The guard and the starter
// thus always have the wrapper's version.
func self() (string, error) { return "/proc/self/exe", nil }

// nameSelf gives this process the name that ps and pgrep show for the program. After an exec of self
// the name would be "exe".
func nameSelf() { _ = os.WriteFile("/proc/self/comm", []byte("etcdlock"), 0) }
