package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what a process has used of it, exactly: a profile only samples. It asks
// for the clock of another process by the number that clock_getcpuclockid gives it on
// Linux; 0 is the own one.
func processorTime(pid int) (time.Duration, error) {
	id := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
	if pid != 0 {
		id = int32(^pid<<3 | 2)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// selfTake is the CPU profile of this process.
type selfTake struct {
	text  bytes.Buffer
	since time.Duration
}

func takeSelf() (*selfTake, error) {
	t := &selfTake{}
	if err := pprof.StartCPUProfile(&t.text); err != nil {
		return nil, err
	}
	var err error
	if t.since, err = processorTime(0); err != nil {
		pprof.StopCPUProfile()
		return nil, err
	}
	return t, nil
}

// end returns the profile, and how much processor time has been used.
func (t *selfTake) end() ([]byte, time.Duration, error) {
	until, err := processorTime(0)
	pprof.StopCPUProfile() // takes no samples from the beginning of this call
	return t.text.Bytes(), until - t.since, err
}

// profileUntil is the worker's part: it profiles this process from now until o.Until into
// a file, if it is told to. The returned function waits for that, and tells the
// processor time.
func profileUntil(o order) (func() (time.Duration, error), error) {
	if o.Profile == "" {
		return func() (time.Duration, error) { return 0, nil }, nil
	}
	take, err := takeSelf()
	if err != nil {
		return nil, err
	}
	var used time.Duration
	ended := make(chan error, 1)
	go func() {
		clock.sleepUntil(o.Until)
		text, u, err := take.end()
		if err == nil {
			used, err = u, os.WriteFile(o.Profile, text, 0o600)
		}
		ended <- err
	}()
	return func() (time.Duration, error) { err := <-ended; return used, err }, nil
}
