package child

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// GuardCommand is the argument with which this program is the guard: RunGuard has to be
// called then, before anything else.
const GuardCommand = "__guard"

// guard is the wrapper's end of the guard process, which hears on a pipe until when the
// command may run. The pipe ends with the wrapper, however that ends.
//
//	until 81234567890    by the clock of Now, in nanoseconds
//	group 4711           the process group to end
//	done                 there is nothing to end any more
type guard struct {
	mu    sync.Mutex
	pipe  io.WriteCloser // nil after done
	until time.Duration
	pgid  int
}

func startGuard(until time.Duration) (*guard, error) {
	g := &guard{until: until}
	return g, g.start()
}

// start starts a guard process; and another one if that ends before it was told to. Called
// with mu held, or before anybody else knows g.
func (g *guard) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, GuardCommand)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what a terminal sends is not for it
	cmd.Dir = "/"
	if g.pipe, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.pipe != nil {
			_ = g.start() // the wrapper itself is still there
		}
	}()
	g.say("until %d\n", int64(g.until))
	if g.pgid != 0 {
		g.say("group %d\n", g.pgid)
	}
	return nil
}

// say tells the guard something; if it has ended, the next one will hear. Called with mu
// held.
func (g *guard) say(format string, args ...any) {
	if g.pipe != nil {
		_, _ = fmt.Fprintf(g.pipe, format, args...)
	}
}

func (g *guard) watch(pgid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pgid = pgid
	g.say("group %d\n", pgid)
}

func (g *guard) extend(until time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = until
	g.say("until %d\n", int64(until))
}

func (g *guard) done() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.say("done\n")
	_ = g.pipe.Close()
	g.pipe = nil
}

// RunGuard is the guard process. It ends the group when its time is over or its standard
// input ends, unless it was told that there is nothing to end any more.
func RunGuard() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	told := make(chan string)
	go func() {
		defer close(told)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			told <- lines.Text()
		}
	}()
	pgid, until := 0, Now()+time.Hour
	for {
		// In steps, as timers stand still while the machine sleeps.
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

func endGroup(pgid int) {
	if pgid > 1 {
		_ = syscall.Kill(-pgid, syscall.SIGKILL)
	}
}
