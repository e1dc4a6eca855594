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

// order describes the command that the starter becomes. It is sent as a gob, which can hold any bytes.
type order struct {
	Path      string
	Args, Env []string
}

// starterPipes has two pipes between the wrapper and the starter, for the order and for the answer. A
// successful exec closes the answer without a byte. After a failure the answer is the error.
type starterPipes struct {
	order, answer           *os.File // the wrapper's ends
	theirOrder, theirAnswer *os.File
}

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

func (p *starterPipes) closeTheirs() {
	_ = p.theirOrder.Close()
	_ = p.theirAnswer.Close()
}

func (p *starterPipes) close() {
	p.closeTheirs()
	_ = p.order.Close()
	_ = p.answer.Close()
}

// start sends the order, and returns after the exec or with its error.
func (p *starterPipes) start(o order) error {
	err := gob.NewEncoder(p.order).Encode(o)
	_ = p.order.Close()
	if err != nil && !errors.Is(err, syscall.EPIPE) { // the end of the answer shows a killed starter
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

// fork starts the starter. The starter's ends of the pipes have numbers that the caller of this process
// has not used, which are passed as arguments. The command thus gets the caller's descriptors under
// their numbers, and no others.
func (p *starterPipes) fork() (pid int, err error) {
	path, err := self()
	if err != nil {
		return 0, err
	}
	files, numbers := layout(p.theirOrder.Fd(), p.theirAnswer.Fd())
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)
	args := []string{os.Args[0], StarterCommand, strconv.Itoa(numbers[0]), strconv.Itoa(numbers[1])}
	return own.start(func() (int, error) {
		return syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: files, Sys: attr})
	})
}

// RunStarter waits for an order, and becomes the command of the order. It returns if the wrapper has
// ended without an order.
func RunStarter(args []string) {
	var order, answer int
	if _, err := fmt.Sscan(strings.Join(args, " "), &order, &answer); err != nil {
		return
	}
	syscall.CloseOnExec(order)
	syscall.CloseOnExec(answer)
	become(os.NewFile(uintptr(order), "order"), os.NewFile(uintptr(answer), "answer"))
}

func become(from io.Reader, answer io.Writer) {
	var o order
	if err := gob.NewDecoder(from).Decode(&o); err != nil {
		return
	}
	err := syscall.Exec(o.Path, o.Args, o.Env)
	var errno syscall.Errno
	if errors.As(err, &errno) {
		_, _ = fmt.Fprintln(answer, int(errno))
	} else {
		_, _ = fmt.Fprintln(answer, err)
	}
}
