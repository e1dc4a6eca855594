// Bench measures etcdlock beside other libraries, in one run and interleaved, on real
// etcd processes that it starts itself.
//
//	go run .                      everything: results/*.json, *.md, *.png
//	go run . -quick               the targets, one line for each
//	go run . alone handover       some suites only
//	go run . -nodes 3 -rounds 2 -list ...
//	go run . -quick -profile DIR processes        where the processor time goes
//	go run . elections            how long an election is without a leader: one table
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(workerMain())
	}
	if len(os.Args) > 1 && os.Args[1] == "elections" {
		os.Exit(electionsMain(os.Args[2:]))
	}
	os.Exit(benchMain())
}

// flags of the command line.
type flags struct {
	quick   bool
	rounds  int
	span    time.Duration
	nodes   string
	out     string
	data    string
	etcd    string
	others  bool
	profile string
	list    bool
	suites  []string
}

func parseFlags() flags {
	var f flags
	given := false
	flag.BoolVar(&f.quick, "quick", false, "one node, one round, what the targets ask for")
	flag.IntVar(&f.rounds, "rounds", 0, "rounds of each suite (default 5, with -quick 1)")
	flag.DurationVar(&f.span, "span", 0, "how long each contention lasts (default 1.5s, with -quick 1s)")
	flag.StringVar(&f.nodes, "nodes", "", "sizes of the clusters (default 1,3, with -quick 1)")
	flag.StringVar(&f.out, "out", "", "directory for results (default results, with -quick none)")
	flag.StringVar(&f.data, "data", "", "directory for etcd's data (default: a temporary one)")
	flag.StringVar(&f.etcd, "etcd", "", "an etcd binary (default: "+etcdproc.Version+" is built once)")
	f.others = true
	flag.BoolFunc("others", "take part: Redis, PostgreSQL, ZooKeeper if installed (default true, with -quick false)", func(v string) (err error) {
		given = true
		f.others, err = strconv.ParseBool(v)
		return err
	})
	flag.StringVar(&f.profile, "profile", "", "directory for CPU profiles of the clients and etcd, and what they say; everything lasts longer, and one contestant comes after the other")
	flag.BoolVar(&f.list, "list", false, "list the suites")
	flag.Parse()
	f.others = f.others && (given || !f.quick)
	f.suites = flag.Args()
	return f
}

func (f flags) plan() (plan, error) {
	p := fullPlan
	if f.quick {
		p = quickPlan
	}
	if f.profile != "" {
		p = p.profiled()
	}
	if f.rounds > 0 {
		p.rounds = f.rounds
	}
	if f.span > 0 {
		p.span = f.span
	}
	if f.nodes != "" {
		p.nodes = nil
		for n := range strings.SplitSeq(f.nodes, ",") {
			size, err := strconv.Atoi(n)
			if err != nil || size < 1 || size > 7 {
				return p, fmt.Errorf("-nodes %s: not a size of a cluster", n)
			}
			p.nodes = append(p.nodes, size)
		}
	}
	for _, name := range f.suites {
		if !slices.ContainsFunc(suites(), func(s suite) bool { return s.name == name }) {
			return p, fmt.Errorf("no such suite: %q (-list lists them)", name)
		}
	}
	return p, nil
}

func (f flags) wants(s suite) bool { return len(f.suites) == 0 || slices.Contains(f.suites, s.name) }

func benchMain() int {
	f := parseFlags()
	if f.list {
		for _, s := range suites() {
			fmt.Printf("%-12s %s\n", s.name, s.about)
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := measureAll(ctx, f)
	switch {
	case ctx.Err() != nil:
		say("interrupted; everything that was started has been ended")
		return 130
	case err != nil:
		say("bench: %v", err)
		return 1
	case !ok:
		return 1
	}
	return 0
}

// measureAll runs the suites that are wanted on each cluster. It is false if the
// referee objected.
func measureAll(ctx context.Context, f flags) (bool, error) {
	p, err := f.plan()
	if err != nil {
		return false, err
	}
	etcd, err := etcdproc.Given(ctx, f.etcd, say)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp(f.data, "etcdlock-bench-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	var kids procs.Children
	defer kids.EndAll()
	// After an interrupt, the end of each child ends the wait for it.
	defer context.AfterFunc(ctx, kids.EndAll)()

	b := &bench{plan: p, dir: dir, book: newBook(), checks: &checks{}, run: strings.ToLower(rand.Text()[:6])}
	if f.profile != "" {
		if b.profile, err = newProfiler(f.profile, dir); err != nil {
			return false, err
		}
	}
	env := survey(dir, etcd.Version)
	if f.others && b.profile == nil {
		var absent []string
		if b.others, absent, err = startOthers(ctx, &kids, dir, &b.where); err != nil {
			return false, err
		}
		env.Absent = absent
	}
	for _, nodes := range p.nodes {
		if err := onCluster(ctx, b, f, &kids, etcd, nodes); err != nil {
			return false, err
		}
	}
	return conclude(f, env, b)
}

// onCluster runs the suites on a cluster of one size.
func onCluster(ctx context.Context, b *bench, f flags, kids *procs.Children, etcd etcdproc.Programs, nodes int) error {
	config := etcdproc.Config{Size: nodes, Dir: b.dir}
	if b.profile != nil {
		config.Args = []string{"--enable-pprof"}
	}
	c, err := etcd.Start(ctx, kids, config)
	if err != nil {
		return err
	}
	if b.profile != nil {
		b.profile.etcd = c.Members
	}
	defer c.Stop()
	b.nodes = nodes
	b.where.Etcd = c.Endpoints()
	b.crew = &crew{kids: kids}
	defer b.crew.dismiss()
	for _, s := range suites() {
		if !f.wants(s) {
			continue
		}
		began := time.Now()
		b.noMutex = f.quick && s.name == "handover" && b.profile == nil
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s on %d nodes: %w", s.name, nodes, errors.Join(context.Cause(ctx), err))
		}
		say("%-12s %d nodes, %5.1f s", s.name, nodes, time.Since(began).Seconds())
	}
	return nil
}

// conclude prints and writes what was found.
func conclude(f flags, env environment, b *bench) (bool, error) {
	r := results{
		Environment: env,
		Contestants: participants(onEtcd(), variants(), b.others),
		Rows:        b.book.finish(),
		Targets:     outcomes(b.book),
		Checks:      b.checks.All,
	}
	if !f.quick {
		writeTable(os.Stdout, r.Rows)
		fmt.Println()
	}
	if len(f.suites) > 0 {
		r.Targets = slices.DeleteFunc(r.Targets, func(o outcome) bool { return !o.Known })
	}
	writeTargets(os.Stdout, r.Targets)
	writeChecks(os.Stdout, b.checks)
	if b.profile != nil {
		writeUsages(os.Stdout, b.profile.cases)
		if err := b.profile.write(); err != nil {
			return false, err
		}
		say("profiles written to %s", f.profile)
	}
	if f.out == "" && !f.quick {
		f.out = "results"
	}
	if f.out != "" {
		if err := writeResults(f.out, r); err != nil {
			return false, err
		}
		say("written to %s", f.out)
	}
	_, failed := b.checks.sum()
	return len(failed) == 0, nil
}
