//go:build linux

package beside

import (
	"os"
	"strconv"
	"time"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/pty"
)

// busy prints its number, and runs until it is killed.
const busy = `sh -c 'echo up $$; exec sleep 1000'`

// atTerminal are the behaviours at an interactive shell.
var atTerminal = []Behaviour{
	{"^Z, then `fg`", stopAndContinue, "stops, continues"},
	{"^Z in a pipeline, then `fg`", stopInPipe, "stops, continues"},
	{"^Z, and left for two TTLs", stopForLong, "killed before the next one holds"},
	{"^Z, then `kill %1`", stopAndKill, "ends"},
	{"^C in a loop of the shell", interruptLoop, "ends the loop"},
	{"reads the terminal", readTerminal, "reads"},
	{"reads it in the background, then `fg`", readInBackground, "stops, then reads"},
}

func stopAndContinue(t *Trial) (string, error) { return t.stopAndContinue(t.line(busy)) }
func stopInPipe(t *Trial) (string, error)      { return t.stopAndContinue(t.line(busy) + " | cat") }

func (t *Trial) stopAndContinue(line string) (string, error) {
	s, err := t.desk()
	if err != nil {
		return "", err
	}
	defer s.Close()
	pid, err := t.seat(s, line)
	if err != nil {
		return "", err
	}
	if ok, err := suspend(s); !ok {
		return "**no prompt**", err
	}
	if !stopped(pid) {
		return "**runs on**", nil
	}
	if err := s.Line("fg"); err != nil {
		return "", err
	}
	if !happens(func() bool { return !stopped(pid) && !dead(pid) }) {
		return "stops, **does not continue**", nil
	}
	return "stops, continues", nil
}

// suspend types ^Z, and reports whether the shell prompts again.
func suspend(s *pty.Shell) (bool, error) {
	if err := s.Type(pty.Suspend); err != nil {
		return false, err
	}
	if _, err := s.Expect("Stopped", none); err != nil {
		return false, nil //nolint:nilerr // the error is the observation
	}
	return true, s.Prompt(enough)
}

func stopForLong(t *Trial) (string, error) {
	if !t.Locks {
		return "has no lock", nil
	}
	s, err := t.desk()
	if err != nil {
		return "", err
	}
	defer s.Close()
	pid, err := t.seat(s, t.line(busy))
	if err != nil {
		return "", err
	}
	if ok, err := suspend(s); !ok {
		return "**no prompt**", err
	}
	next, holds := t.shell(t.line("true")), make(chan error, 1)
	if err := next.Start(); err != nil {
		return "", err
	}
	go func() { holds <- next.Wait() }()
	select {
	case err := <-holds:
		if err == nil && !dead(pid) {
			return "**the next one holds beside it**", nil
		}
		return "killed before the next one holds", err
	case <-time.After(2*TTL + none):
		_ = next.Process.Kill()
		return "holds on", nil
	}
}

func stopAndKill(t *Trial) (string, error) {
	s, err := t.desk()
	if err != nil {
		return "", err
	}
	defer s.Close()
	pid, err := t.seat(s, t.line(busy))
	if err != nil {
		return "", err
	}
	if ok, err := suspend(s); !ok {
		return "**no prompt**", err
	}
	if err := s.Line("kill %1"); err != nil {
		return "", err
	}
	if !happens(func() bool { return dead(pid) }) {
		return "**does not end**", nil
	}
	return "ends", nil
}

func interruptLoop(t *Trial) (string, error) {
	s, err := t.desk()
	if err != nil {
		return "", err
	}
	defer s.Close()
	pid, err := t.seat(s, "while :; do "+t.line(busy)+"; done")
	if err != nil {
		return "", err
	}
	if err := s.Type(pty.Interrupt); err != nil {
		return "", err
	}
	if s.Prompt(none) == nil {
		return "ends the loop", nil
	}
	if dead(pid) {
		return "**the loop goes on**", nil
	}
	return "**nothing**", nil
}

const reads = `sh -c 'echo up $$; read x; echo read $x'`

func readTerminal(t *Trial) (string, error) {
	s, err := t.desk()
	if err != nil {
		return "", err
	}
	defer s.Close()
	if _, err := t.seat(s, t.line(reads)); err != nil {
		return "", err
	}
	return answer(s)
}

// answer types a line, and reports whether it is read.
func answer(s *pty.Shell) (string, error) {
	if err := s.Line("hello"); err != nil {
		return "", err
	}
	if _, err := s.Expect("read hello", none); err != nil {
		return "**does not read**", nil //nolint:nilerr // the error is the observation
	}
	return "reads", nil
}

func readInBackground(t *Trial) (string, error) {
	s, err := t.desk()
	if err != nil {
		return "", err
	}
	defer s.Close()
	pid, err := t.seat(s, t.line(reads)+" &")
	if err != nil {
		return "", err
	}
	if !happens(func() bool { _, parent := state(pid); return stopped(pid) && stopped(parent) }) {
		if dead(pid) {
			return "**reads nothing**, ends", nil
		}
		return "**does not stop**", nil
	}
	if s.Stopped(none) != nil {
		return "**the shell does not know**", nil
	}
	if err := s.Line("fg"); err != nil {
		return "", err
	}
	if err := s.Foreground(enough); err != nil {
		return "", err
	}
	cell, err := answer(s)
	return "stops, then " + cell, err
}

// zombies counts the children of a process that have ended and were not reaped.
func zombies(of int) (n int) {
	dir, _ := os.ReadDir("/proc")
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if letter, parent := state(pid); letter == "Z" && parent == of {
			n++
		}
	}
	return n
}
