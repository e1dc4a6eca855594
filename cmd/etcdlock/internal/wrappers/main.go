//go:build linux

// Command wrappers runs a command under "etcdlock lock", flock(1), timeout(1) and "etcdctl lock", with
// a terminal and without, and prints the table of docs/command.md.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/beside"
)

func main() {
	beside.Subreap()
	beside.LeaveMake()
	beside.HearSignals()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "wrappers: say where etcdctl is: make wrappers ETCDCTL=path")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "wrappers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, etcdctl string) error {
	dir, err := os.MkdirTemp("", "wrappers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	etcdlock := filepath.Join(dir, "etcdlock")
	build := exec.CommandContext(ctx, "go", "build", "-o", etcdlock, ".")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build etcdlock: %w: %s", err, out)
	}
	endpoint, stop, err := serve(etcdlock)
	if err != nil {
		return err
	}
	defer stop()
	env := []string{"ETCDCTL_ENDPOINTS=" + endpoint}
	seconds := strconv.Itoa(int(beside.TTL.Seconds()))
	wrappers := []*beside.Wrapper{
		{Name: "etcdlock lock", Locks: true, Env: env, Args: func(name string) []string {
			return []string{etcdlock, "lock", "--ttl", beside.TTL.String(), strings.TrimPrefix(name, "/"), "--"}
		}},
		{Name: "flock", Locks: true, Args: func(name string) []string { return []string{"flock", name} }},
		{Name: "timeout", Args: func(string) []string { return []string{"timeout", "1000"} }},
		{Name: "etcdctl lock", Locks: true, Env: env, Args: func(name string) []string {
			return []string{etcdctl, "lock", "--ttl", seconds, strings.TrimPrefix(name, "/"), "--"}
		}},
	}
	fmt.Print("| |")
	for _, w := range wrappers {
		fmt.Printf(" %s |", w.Name)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(wrappers)))
	for i := range beside.Behaviours {
		b := &beside.Behaviours[i]
		fmt.Printf("| %s |", b.What)
		for j, w := range wrappers {
			own := filepath.Join(dir, fmt.Sprintf("%d-%d", i, j))
			if err := os.Mkdir(own, 0o700); err != nil {
				return err
			}
			cell, err := beside.Observe(ctx, w, b, own)
			if err != nil {
				return err
			}
			fmt.Printf(" %s |", cell)
		}
		fmt.Println()
	}
	return nil
}

// serve starts an etcd for this program.
func serve(etcdlock string) (endpoint string, stop func(), err error) {
	cmd := exec.Command(etcdlock, "serve-dev", "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, err
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "export ETCDCTL_ENDPOINTS="), stop, nil
}
