//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// order is what the starter is to become; sent as a gob, which takes any bytes.
type order struct {
	Path      string
	Args, Env []string
}

// starterPipes are between the wrapper and the starter: one for the order, one for what has
// come of it. The second one is closed by the exec that succeeds, and otherwise says why not.
type starterPipes struct {
	order, answer           *os.File // the wrapper's ends
	theirOrder, theirAnswer *os.File
}

// The numbers of the starter's ends.
const (
	orderFD  = 3
	answerFD = 4
)

func newStarterPipes() (p *starterPipes, err error) {
	p = &starterPipes{}
	if p.theirOrder, p.order, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.answer, p.theirAnswer, err = os.Pipe(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// theirs are the starter's ends, in the order of their numbers.
func (p *starterPipes) theirs() []*os.File { return []*os.File{p.theirOrder, p.theirAnswer} }

func (p *starterPipes) closeTheirs() {
	_ = p.theirOrder.Close()
	_ = p.theirAnswer.Close()
}

func (p *starterPipes) close() {
	p.closeTheirs()
	_ = p.order.Close()
	_ = p.answer.Close()
}

// start gives the order, and returns when it was carried out, or why it was not.
func (p *starterPipes) start(o order) error {
	err := gob.NewEncoder(p.order).Encode(o)
	_ = p.order.Close()
	if err != nil && !errors.Is(err, syscall.EPIPE) { // a starter that was killed tells by its end
		return err
	}
	answer, err := io.ReadAll(p.answer)
	if err != nil {
		return err
	}
	if len(answer) == 0 {
		return nil
	}
	errno, err := strconv.Atoi(strings.TrimSpace(string(answer)))
	if err != nil {
		return fmt.Errorf("run %s: %s", o.Path, answer)
	}
	return &fs.PathError{Op: "run", Path: o.Path, Err: syscall.Errno(errno)}
}

// RunStarter becomes the command that it is told to, and returns if there is none, as the
// wrapper has ended.
func RunStarter() {
	syscall.CloseOnExec(orderFD)
	syscall.CloseOnExec(answerFD)
	var o order
	if err := gob.NewDecoder(os.NewFile(orderFD, "order")).Decode(&o); err != nil {
		return
	}
	err := syscall.Exec(o.Path, o.Args, o.Env)
	answer := os.NewFile(answerFD, "answer")
	var errno syscall.Errno
	if errors.As(err, &errno) {
		_, _ = fmt.Fprintln(answer, int(errno))
	} else {
		_, _ = fmt.Fprintln(answer, err)
	}
}
