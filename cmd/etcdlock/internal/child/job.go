//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package child

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// job makes the command's process group behave as a part of the shell's job, which is the group of
// this process. The shell does not know the command's group.
//
//	the shell's job: etcdlock, and the rest of a pipeline or script
//	    the command's group: the command and what it starts
//
// The terminal has one foreground group. If etcdlock is the whole job of the shell, it is the
// command's group from the start, so that a command finds itself in the foreground. Otherwise the
// shell's job stays in the foreground and gets ^C and ^Z as a whole, and etcdlock passes them to the
// command. The command gets the terminal when its first use of the terminal stops it with SIGTTIN or
// SIGTTOU.
//
// When the command stops, etcdlock takes the terminal back and stops with its whole job. The lock is
// then not renewed, and the guard kills the command at the deadline. When the shell continues the
// job, the command gets the terminal again if it had it, and continues.
//
// A job that no shell can continue, such as that of process 1, is never stopped.
type job struct {
	pgid int           // the command's group
	done chan struct{} // closed at the end

	mu      sync.Mutex
	over    bool
	stopped bool      // true while the command is stopped
	front   bool      // true if the command gets the terminal when it continues
	resumed time.Time // when the command was last continued
}

// change is a change of the command's state.
type change struct {
	ended     bool
	stopped   syscall.Signal // by which it was stopped; 0 if it was not
	continued bool
}

// begin is called when the command is about to run.
func (j *job) begin() {
	onTerminal(func(t terminal) {
		if seesStops {
			go j.lookOutForVfork()
		}
		if t.foreground() == unix.Getpgrp() && (alone() || !seesStops) {
			t.give(j.pgid)
		}
	})
}

// end takes back the terminal, if the command has it.
func (j *job) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.over {
		close(j.done)
	}
	j.over = true
	onTerminal(func(t terminal) {
		if t.foreground() == j.pgid {
			t.give(unix.Getpgrp())
		}
	})
}

// lookOutForVfork finds a stop that the kernel does not report. A process that calls vfork cannot be
// stopped until the new process has begun. If ^Z comes between the two, the new process is stopped
// and never begins.
func (j *job) lookOutForVfork() {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for waits := 0; ; {
		select {
		case <-tick.C:
		case <-j.done:
			return
		}
		j.mu.Lock()
		stopped := j.stopped
		j.mu.Unlock()
		if stopped || !uninterruptible(j.pgid) {
			waits = 0
			continue
		}
		if waits++; waits > 1 && anyStopped(j.pgid) {
			waits = 0
			j.commandStopped(syscall.SIGTSTP)
		}
	}
}

// commandStopped is called when the command was stopped by a signal.
func (j *job) commandStopped(sig syscall.Signal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return
	}
	j.stopped = true
	onTerminal(func(t terminal) { // without a terminal, a command that was stopped by hand stays stopped
		front, wants := t.foreground(), sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
		j.front = front == j.pgid || wants
		switch {
		case wants && front == unix.Getpgrp():
			j.resume()
			return
		case front == j.pgid:
			t.give(unix.Getpgrp())
		}
		switch {
		case StopJob():
		case front == j.pgid || time.Since(j.resumed) > time.Second:
			j.resume()
		default: // it waits for a terminal that it cannot have
			time.AfterFunc(time.Second, j.jobContinued)
		}
	})
}

// commandContinued is called when the command was continued, by this process or by another one.
func (j *job) commandContinued() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = false
}

// stopAsked is called when the shell's job is to stop.
func (j *job) stopAsked() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.stopped {
		_ = syscall.Kill(-j.pgid, syscall.SIGTSTP) // the job stops after the command
	}
	if j.stopped || !seesStops {
		StopJob()
	}
}

// jobContinued is called when the shell's job was continued.
func (j *job) jobContinued() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.over {
		j.resume()
	}
}

// resume continues the command. Called with mu held.
func (j *job) resume() {
	j.resumed, j.stopped = time.Now(), false
	onTerminal(func(t terminal) {
		if j.front && t.foreground() == unix.Getpgrp() {
			t.give(j.pgid)
		}
	})
	_ = syscall.Kill(-j.pgid, syscall.SIGCONT)
}

// StopJob stops the job of this process. It returns false, without a stop, if no shell could continue
// the job. The stop may take effect shortly after the return.
func StopJob() bool {
	if orphaned() {
		return false
	}
	return syscall.Kill(0, syscall.SIGSTOP) == nil
}

// orphaned reports whether POSIX calls the group of this process orphaned, because no parent outside
// the group controls it as a job.
func orphaned() bool {
	group := unix.Getpgrp()
	session, err := unix.Getsid(0)
	if err != nil {
		return true
	}
	for pid := os.Getppid(); pid > 0; pid = parentOf(pid) {
		if of, err := unix.Getsid(pid); err != nil || of != session {
			return true
		}
		if of, err := unix.Getpgid(pid); err != nil || of != group {
			return err != nil
		}
	}
	return true
}
