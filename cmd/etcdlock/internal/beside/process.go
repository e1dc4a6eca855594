//go:build linux

package beside

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Behaviours returns all observations.
var Behaviours = slices.Concat(atTerminal, asProcess)

// asProcess are the behaviours without a terminal.
var asProcess = []Behaviour{
	{"SIGTERM to the wrapper", terminate, "passed on, waits"},
	{"SIGKILL to the wrapper", killWrapper, "the command is killed"},
	{"SIGTERM while the command is stopped", terminateStopped, "ends"},
	{"what the command leaves behind", leftBehind, "is killed"},
	{"orphans, as process 1", orphans, "are reaped"},
	{"its file is removed meanwhile", removed, "goes on"},
	{"the caller's descriptors 3, 4 and 9", descriptors, "pass"},
	{"`make -j2` in `make -j2`", jobserver, "shares the jobs"},
	{"signals ignored by the caller", ignored, "HUP, INT stay so"},
	{"exit codes: 7, SIGKILL, no such command, not executable", codes, "7, 137, 127, 126"},
}

func terminate(t *Trial) (string, error) {
	wrapper, pid, err := t.start(`sh -c 'trap "sleep 0.5; exit 3" TERM; echo up $$; while :; do sleep 0.05; done'`)
	if err != nil {
		return "", err
	}
	_ = wrapper.Process.Signal(syscall.SIGTERM)
	patience := time.AfterFunc(2*none, func() { _ = wrapper.Process.Kill() })
	_ = wrapper.Wait()
	switch {
	case !patience.Stop():
		return "**does not end**", nil
	case dead(pid):
		return "passed on, waits", nil
	case happens(func() bool { return dead(pid) }):
		return "passed on, does not wait", nil
	default:
		return "**the command runs on**", nil
	}
}

func killWrapper(t *Trial) (string, error) {
	wrapper, pid, err := t.start(busy)
	if err != nil {
		return "", err
	}
	_ = wrapper.Process.Kill()
	_ = wrapper.Wait()
	if happens(func() bool { return dead(pid) }) {
		return "the command is killed", nil
	}
	return "**the command runs on**", nil
}

func terminateStopped(t *Trial) (string, error) {
	wrapper, pid, err := t.start(busy)
	if err != nil {
		return "", err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return "", err
	}
	_ = wrapper.Process.Signal(syscall.SIGTERM)
	if happens(func() bool { return dead(pid) }) {
		return "ends", nil
	}
	return "**does not end**", nil
}

func leftBehind(t *Trial) (string, error) {
	out, err := t.shell(t.line(`sh -c 'sleep 60 > /dev/null 2>&1 & echo $!'`)).Output()
	if err != nil {
		return "", err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return "", err
	}
	t.kill = append(t.kill, pid)
	if dead(pid) {
		return "is killed", nil
	}
	return "runs on", nil
}

func orphans(t *Trial) (string, error) {
	args := append(t.Args(t.name), "sh", "-c", `for i in 1 2 3; do (sh -c 'sleep 0.1' &); done; echo up; exec sleep 60`)
	path, err := exec.LookPath(args[0])
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(t.ctx, "/proc/self/exe", append([]string{path}, args[1:]...)...)
	cmd.Env = append(t.env(), AsSubreaper+"=1")
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	t.kill = append(t.kill, cmd.Process.Pid)
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		patience := time.AfterFunc(none, func() { _ = cmd.Process.Kill() })
		defer patience.Stop()
		_ = cmd.Wait()
	}()
	if _, err := fmt.Fscan(stdout, new(string)); err != nil {
		_ = cmd.Wait()
		return "", fmt.Errorf("%w: %s", err, &stderr)
	}
	time.Sleep(time.Second) // until the orphans have ended
	if happens(func() bool { return zombies(cmd.Process.Pid) == 0 }) {
		return "are reaped", nil
	}
	return "**stay zombies**", nil
}

func removed(t *Trial) (string, error) {
	args := t.Args(t.name)
	path, err := exec.LookPath(args[0])
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	moved := filepath.Join(t.dir, "program")
	// A process that is started at this time has the file open until it runs its own program, and a
	// file that is open for writing cannot be run.
	syscall.ForkLock.RLock()
	err = os.WriteFile(moved, program, 0o755) //nolint:gosec // the file is a program
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", err
	}
	copied := *t.Wrapper
	copied.Args = func(string) []string { return append([]string{moved}, args[1:]...) }
	t.Wrapper = &copied
	gate := filepath.Join(t.dir, "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		return "", err
	}
	wrapper, _, err := t.start("sh -c 'echo up $$; read go < " + gate + "; exit 7'")
	if err != nil {
		return "", err
	}
	if err := os.Remove(moved); err != nil {
		return "", err
	}
	if err := os.WriteFile(gate, []byte("\n"), 0); err != nil {
		return "", err
	}
	patience := time.AfterFunc(enough, func() { _ = wrapper.Process.Kill() })
	defer patience.Stop()
	_ = wrapper.Wait()
	if code := wrapper.ProcessState.ExitCode(); code != 7 && code != 1 {
		return fmt.Sprintf("**code %d**", code), nil
	}
	return "goes on", nil
}

// descriptorsOf lists the descriptors that a command has with a prefix before it.
func (t *Trial) descriptorsOf(line func(string) string) ([]string, error) {
	const list = `sh -c 'for f in /proc/$$/fd/*; do n=${f##*/}; readlink $f > /dev/null && echo $n; done'`
	out, err := t.shell(`exec 3</dev/null 4>/dev/zero 9>/dev/null; ` + line(list)).Output()
	return strings.Fields(string(out)), err
}

func descriptors(t *Trial) (string, error) {
	alone, err := t.descriptorsOf(func(command string) string { return command })
	if err != nil {
		return "", err
	}
	under, err := t.descriptorsOf(t.line)
	if err != nil {
		return "", err
	}
	for _, fd := range []string{"3", "4", "9"} {
		if !slices.Contains(under, fd) {
			return "**" + fd + " is closed**", nil
		}
	}
	if len(under) > len(alone) {
		return "pass, and one of its own", nil
	}
	return "pass", nil
}

func jobserver(t *Trial) (string, error) {
	files := map[string]string{
		"Makefile": "all:\n\t+@" + t.line("$(MAKE) -s -f below") + "\n",
		// Each job waits until another one has begun too, for a limited time.
		"below": "all: a b c d\na b c d:\n\t@echo start; touch $@.began; n=0; " +
			"while [ $$(ls *.began | wc -l) -lt 2 ] && [ $$n -lt 100 ]; do n=$$((n+1)); sleep 0.1; done; echo end\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(t.dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	out, err := t.shell("make -s -j2 2>&1").Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	if bytes.Contains(out, []byte("unavailable")) || !bytes.Contains(out, []byte("start\nstart\n")) {
		return "**one at a time**", nil
	}
	return "shares the jobs", nil
}

func ignored(t *Trial) (string, error) {
	names := []string{"HUP", "INT", "QUIT", "TERM", "PIPE", "USR1"}
	numbers := []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1}
	out, err := t.shell("trap '' " + strings.Join(names, " ") + "; exec " + t.line("grep SigIgn /proc/self/status")).Output()
	if err != nil {
		return "", err
	}
	groups := regexp.MustCompile(`SigIgn:\s*([0-9a-f]+)`).FindSubmatch(out)
	if groups == nil {
		return "", fmt.Errorf("no dispositions: %s", out)
	}
	mask, err := strconv.ParseUint(string(groups[1]), 16, 64)
	if err != nil {
		return "", err
	}
	var stay []string
	for i, sig := range numbers {
		if mask&(1<<(sig-1)) != 0 {
			stay = append(stay, names[i])
		}
	}
	if len(stay) == len(names) {
		return "stay so", nil
	}
	return strings.Join(stay, ", ") + " stay so", nil
}

func codes(t *Trial) (string, error) {
	plain := filepath.Join(t.dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		return "", err
	}
	var codes []string
	for _, command := range []string{"sh -c 'exit 7'", "sh -c 'kill -9 $$'", "no-such-command", plain} {
		err := t.shell(t.line(command) + "; exit $?").Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return "", err
		}
		code := 0
		if exit != nil {
			code = exit.ExitCode()
		}
		codes = append(codes, strconv.Itoa(code))
	}
	return strings.Join(codes, ", "), nil
}
