// Chaos does to etcdlock, and beside it to etcd's own sessions, what happens to real
// processes: a cluster of three etcd processes, clients that are processes with a proxy
// of their own before each member, and one nemesis after the other.
//
//	go run .                          every nemesis: a table, results/*
//	go run . -rounds 5 cut kill-leader
//	go run . -list
//
// It ends with 1 if a promise of etcdlock was not kept: two held at one time, a token
// did not grow, a history was broken, a key was left behind, a client was stuck.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// The program is started again as each of its clients.
const (
	roleEnv    = "ETCDLOCK_CHAOS_ROLE"
	roleClient = "client"
	roleRunner = "runner" // in a namespace of its own

	clientEnv = "ETCDLOCK_CHAOS_CLIENT"
)

func main() {
	switch os.Getenv(roleEnv) {
	case roleClient:
		os.Exit(clientMain())
	case roleRunner:
		os.Exit(chaosMain())
	default:
		os.Exit(enclosed())
	}
}

// enclosed runs the program where it may mount, if that can be had.
func enclosed() int {
	self, err := os.Executable()
	if err != nil {
		say("chaos: %v", err)
		return 1
	}
	signal.Ignore(os.Interrupt) // it is for the one inside, which ends in order
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"="+roleRunner)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	namespace(cmd.SysProcAttr)
	if cmd.Start() != nil {
		return chaosMain()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		for s := range stop {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait() // the code says it
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return 1
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func chaosMain() int {
	p := plan{kids: &procs.Children{}, say: say}
	var out, etcd string
	var list bool
	flag.IntVar(&p.rounds, "rounds", 2, "how often each nemesis strikes")
	flag.DurationVar(&p.ttl, "ttl", 3*time.Second, "of all sessions, in whole seconds")
	flag.BoolVar(&p.control, "control", true, "etcd's own library beside")
	flag.StringVar(&etcd, "etcd", "", "an etcd binary (default: "+etcdproc.Version+" is built once)")
	flag.StringVar(&p.dir, "data", "", "directory for etcd's data (default: a temporary one)")
	flag.StringVar(&out, "out", "results", "directory for results")
	flag.BoolVar(&list, "list", false, "list the nemeses")
	flag.Parse()
	var err error
	if p.nemeses, err = find(flag.Args()); err != nil {
		say("chaos: %v", err)
		return 2
	}
	if list {
		for _, n := range p.nemeses {
			fmt.Printf("%-16s %s\n", n.name, n.about)
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer p.kids.EndAll()
	failed, err := p.all(ctx, etcd, out)
	switch {
	case ctx.Err() != nil:
		say("interrupted; everything that was started has been ended")
		return 130
	case err != nil:
		say("chaos: %v", err)
		return 1
	case len(failed) > 0:
		return 1
	}
	return 0
}

// all runs every nemesis, writes the results, and returns which promises were not kept.
func (p plan) all(ctx context.Context, etcd, out string) ([]string, error) {
	if p.rounds < 1 || p.ttl < 2*time.Second || p.ttl%time.Second != 0 {
		return nil, fmt.Errorf("%d rounds with a TTL of %v: one round and 2s at least, in whole seconds", p.rounds, p.ttl)
	}
	var err error
	if p.etcd, err = etcdproc.Given(ctx, etcd, p.say); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp(p.dir, "etcdlock-chaos-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(p.dir)
	r := report{Environment: survey(p)}
	for _, n := range p.nemeses {
		o, err := p.run(ctx, n)
		if err != nil {
			return nil, err
		}
		r.Outcomes = append(r.Outcomes, o)
		p.say("%s", o.line())
		if err := o.writeHistory(out); err != nil {
			return nil, err
		}
	}
	r.Failures = failures(r.Outcomes)
	return r.Failures, r.write(out, os.Stdout)
}
