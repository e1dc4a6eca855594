//go:build linux

// Package pty runs an interactive shell with job control on a new terminal, and types on it. It is for
// tests and for the table of docs/command.md.
package pty

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is typed for a signal from the keyboard.
const (
	Interrupt = "\x03" // ^C
	Suspend   = "\x1a" // ^Z
)

const prompt = "READY> "

// Shell is a bash on a terminal.
type Shell struct {
	cmd    *exec.Cmd
	master *os.File
	closed chan struct{} // closed at the end of the terminal's output

	mu    sync.Mutex
	out   []byte // what was written to the terminal
	from  int    // where Expect continues in out
	wrote chan struct{}
}

// Start starts a shell with further variables in its environment.
func Start(env ...string) (*Shell, error) {
	master, slave, err := open()
	if err != nil {
		return nil, err
	}
	defer slave.Close()
	cmd := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Env = append(append(os.Environ(), "PS1="+prompt, "TERM=dumb", "HISTFILE="), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		_ = master.Close()
		return nil, err
	}
	s := &Shell{cmd: cmd, master: master, closed: make(chan struct{}), wrote: make(chan struct{}, 1)}
	go s.read()
	return s, s.Prompt(time.Minute)
}

// open opens both ends of a new terminal.
func open() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	return master, slave, nil
}

func (s *Shell) read() {
	defer close(s.closed)
	for buf := make([]byte, 4096); ; {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.out = append(s.out, buf[:n]...)
		s.mu.Unlock()
		select {
		case s.wrote <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// Pid is the number of the shell.
func (s *Shell) Pid() int { return s.cmd.Process.Pid }

// Type types keys.
func (s *Shell) Type(keys string) error {
	_, err := s.master.WriteString(keys)
	return err
}

// Line types a line.
func (s *Shell) Line(line string) error { return s.Type(line + "\n") }

// Expect waits until the terminal shows a match of a regular expression after the last one, and
// returns the matches of its groups.
func (s *Shell) Expect(expr string, within time.Duration) ([]string, error) {
	re := regexp.MustCompile(expr)
	late := time.After(within)
	for {
		s.mu.Lock()
		if at := re.FindSubmatchIndex(s.out[s.from:]); at != nil {
			var groups []string
			for i := 0; i < len(at); i += 2 {
				groups = append(groups, string(s.out[s.from+at[i]:s.from+at[i+1]]))
			}
			s.from += at[1]
			s.mu.Unlock()
			return groups[1:], nil
		}
		shown := string(s.out[s.from:])
		s.mu.Unlock()
		select {
		case <-s.wrote:
		case <-late:
			return nil, fmt.Errorf("the terminal does not show %q within %v, but %q", expr, within, shown)
		case <-s.closed:
			return nil, fmt.Errorf("the terminal is closed before it shows %q: %q", expr, shown)
		}
	}
}

// Prompt waits for the prompt.
func (s *Shell) Prompt(within time.Duration) error {
	_, err := s.Expect(regexp.QuoteMeta(prompt), within)
	return err
}

// Stopped waits until the shell has reported a stopped job in the background and prompts. The shell
// reports it only before a prompt, and only after the last thread of the process has stopped, which is
// later than /proc shows. Stopped therefore presses Enter until the report comes.
func (s *Shell) Stopped(within time.Duration) error {
	for late := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		if err := s.Line(""); err != nil {
			return err
		}
		said, err := s.Expect(`(?s)^(.*?)`+regexp.QuoteMeta(prompt), time.Until(late))
		if err != nil {
			return err
		}
		if strings.Contains(said[0], "Stopped") {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("the shell knows of no job that has stopped within %v", within)
		}
	}
}

// Code is the exit code of the last command. It is called at the prompt.
func (s *Shell) Code(within time.Duration) (int, error) {
	if err := s.Line("echo code=$?="); err != nil {
		return 0, err
	}
	groups, err := s.Expect(`code=(\d+)=`, within)
	if err != nil {
		return 0, err
	}
	code, _ := strconv.Atoi(groups[0])
	return code, s.Prompt(within)
}

// Foreground waits until the shell has given its terminal to a job.
func (s *Shell) Foreground(within time.Duration) error {
	for late := time.Now().Add(within); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
		if pgid, err := unix.IoctlGetInt(int(s.master.Fd()), unix.TIOCGPGRP); err == nil && pgid != s.cmd.Process.Pid {
			return nil
		}
	}
	return fmt.Errorf("no job is in the foreground within %v", within)
}

// Shown returns everything that the terminal has shown.
func (s *Shell) Shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.out)
}

// Close kills the shell and every process of its session, and closes the terminal.
func (s *Shell) Close() {
	pid := s.cmd.Process.Pid
	for _, member := range sessionOf(pid) {
		_ = syscall.Kill(member, syscall.SIGKILL)
	}
	_ = s.cmd.Wait()
	_ = s.master.Close()
}

// sessionOf returns the processes of a session.
func sessionOf(sid int) (pids []int) {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if of, err := unix.Getsid(pid); err == nil && of == sid {
			pids = append(pids, pid)
		}
	}
	return pids
}
