package etcdlocktest

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
)

// callers are the frames of the calling goroutine, without those of this package.
func callers() []uintptr {
	pcs := make([]uintptr, 32)
	return pcs[:runtime.Callers(2, pcs)]
}

const module = "github.com/etcdlock/etcdlock"

// library matches the functions of etcdlock through which the code under test takes something.
var library = regexp.MustCompile(`^` + regexp.QuoteMeta(module) + `(/internal/[^.]*|/etcdlocktest|/compat/concurrency)?\.`)

// stack formats the frames of the code under test, from the innermost one to the test.
func stack(pcs []uintptr) string {
	var b strings.Builder
	frames := runtime.CallersFrames(pcs)
	for inside := true; ; {
		f, more := frames.Next()
		inside = inside && library.MatchString(f.Function) && !strings.HasSuffix(f.File, "_test.go")
		if !inside && !strings.HasPrefix(f.Function, "runtime.") && !strings.HasPrefix(f.Function, "testing.") {
			fmt.Fprintf(&b, "\t%s\n\t\t%s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			return b.String()
		}
	}
}

var header = regexp.MustCompile(`^goroutine (\d+) \[[^\]]*synctest bubble (\d+)`)

// ownBubble is the header of the calling goroutine: its number, and that of its bubble.
func ownBubble() (goroutine, bubble string) {
	text := make([]byte, 200)
	text = text[:runtime.Stack(text, false)]
	if m := header.FindSubmatch(text); m != nil {
		return string(m[1]), string(m[2])
	}
	return "", ""
}

func inBubble() bool {
	_, bubble := ownBubble()
	return bubble != ""
}

// inSameBubble are the stacks of all other goroutines of the caller's bubble that the code under test
// has started.
func inSameBubble() (stacks []string) {
	own, bubble := ownBubble()
	var text []byte
	for size := 1 << 16; len(text) == cap(text); size *= 2 {
		text = make([]byte, size)
		text = text[:runtime.Stack(text, true)]
	}
	for _, s := range strings.Split(string(text), "\n\n") {
		m := header.FindStringSubmatch(s)
		if m != nil && m[2] == bubble && m[1] != own && !strings.Contains(s, "\ntesting/synctest.") {
			stacks = append(stacks, strings.TrimSpace(s))
		}
	}
	return stacks
}
