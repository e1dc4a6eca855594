//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// guard is the wrapper's end of the guard process. The guard process reads from a pipe until when the
// command may run. The pipe is closed when the wrapper ends for any reason.
//
//	until 81234567890    by the clock of Now, in nanoseconds
//	group 4711           the process group to end
//	done                 the group has ended
type guard struct {
	mu    sync.Mutex
	pipe  *os.File // nil after done
	cmd   *exec.Cmd
	gone  chan struct{} // closed when the current guard process has ended
	until time.Duration
	told  time.Duration // the until that was last written to the guard process
	pgid  int
}

// patience is how long the guard process may take to read a line, or to end. After that it is killed,
// and replaced if the command still runs.
const patience = time.Second

// forever is the deadline of a command before Go.
const forever = 1<<63 - 1

func startGuard() (*guard, error) {
	g := &guard{until: forever}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g, g.start()
}

// start starts a guard process, and another one if it ends before done. Called with mu held.
func (g *guard) start() error {
	path, err := self()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(path)
	cmd.Args = []string{os.Args[0], GuardCommand}
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not reached by signals of the terminal
	cmd.Dir = "/"
	if err := Start(cmd); err != nil {
		_ = w.Close()
		return err
	}
	if g.pipe != nil {
		_ = g.pipe.Close()
	}
	gone := make(chan struct{})
	g.pipe, g.cmd, g.gone = w, cmd, gone
	go func() {
		_ = Wait(cmd)
		close(gone)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.pipe != nil && Now() < g.until {
			_ = g.start() // the guard process was killed, and the wrapper still runs
		}
	}()
	g.told = g.until
	g.say("until %d\n", int64(g.until))
	if g.pgid != 0 {
		g.say("group %d\n", g.pgid)
	}
	return nil
}

// say writes to the guard process. If it does not read, it is killed and replaced. Called with mu
// held.
func (g *guard) say(format string, args ...any) {
	if g.pipe == nil {
		return
	}
	_ = g.pipe.SetWriteDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(g.pipe, format, args...); err != nil {
		_ = g.cmd.Process.Kill()
	}
}

func (g *guard) watch(pgid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pgid = pgid
	g.say("group %d\n", pgid)
}

func (g *guard) extend(until time.Duration) {
	const worth = 5 * time.Millisecond // the smallest change that is written
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = until
	if d := until - g.told; d > worth || d < -worth {
		g.told = until
		g.say("until %d\n", int64(until))
	}
}

// done ends the guard process, and returns when it is gone.
func (g *guard) done() {
	g.mu.Lock()
	g.say("done\n")
	_ = g.pipe.Close()
	g.pipe = nil
	cmd, gone := g.cmd, g.gone
	g.mu.Unlock()
	select {
	case <-gone:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-gone
	}
}

// RunGuard is the guard process. It kills the group when the time is over or its standard input
// ends. It returns without a kill after "done".
func RunGuard() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP)
	nameSelf()
	closeInherited() // the reader of a pipe of the caller waits until all writers have closed it
	told := make(chan string)
	go func() {
		defer close(told)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			told <- lines.Text()
		}
	}()
	pgid, until := 0, time.Duration(forever)
	for {
		// In steps, because timers stop while the machine sleeps.
		left := time.NewTimer(min(until-Now(), time.Second/4))
		select {
		case line, ok := <-told:
			left.Stop()
			word, number, _ := strings.Cut(line, " ")
			var n int64
			_, _ = fmt.Sscan(number, &n)
			switch {
			case !ok:
				endGroup(pgid)
				return
			case word == "done":
				return
			case word == "until":
				until = time.Duration(n)
			case word == "group":
				pgid = int(n)
			}
		case <-left.C:
			if Now() >= until {
				endGroup(pgid)
				return
			}
		}
	}
}

// endGroup kills a process group. It does so twice, because a process that was being forked during
// the first kill may not have been in the group yet.
func endGroup(pgid int) {
	if pgid <= 1 {
		return
	}
	_ = syscall.Kill(-pgid, syscall.SIGKILL)
	time.Sleep(10 * time.Millisecond)
	_ = syscall.Kill(-pgid, syscall.SIGKILL)
}
