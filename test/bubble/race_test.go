//go:build race

package bubble

import "runtime"

// The race detector of Go 1.26 crashes when two goroutines of a bubble start timers of zero
// duration at the same time, which gRPC does for each connection (report T1). On one
// processor nothing happens at the same time; what the detector finds does not depend on that.
func init() { runtime.GOMAXPROCS(1) }
