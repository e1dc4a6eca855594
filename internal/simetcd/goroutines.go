package simetcd

import (
	"regexp"
	"runtime"
	"strings"
)

// Goroutines returns the stacks of the goroutines in the synctest bubble of the caller. Those of the
// runtime, and those that other tests have left behind, are not among them.
func Goroutines() (stacks []string) {
	buf := make([]byte, 16<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	bubble := regexp.MustCompile(`synctest bubble \d+`).FindString(all[0]) // the caller is the first one
	for _, stack := range all {
		if state, _, _ := strings.Cut(stack, ":\n"); strings.HasSuffix(state, bubble+"]") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}
