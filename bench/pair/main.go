// Pair measures two revisions of the library against each other: the working tree, and the one
// that -base names. Both are measured in turn on one etcd, round by round, in an order that is
// drawn each time. A row's ratio is the median of the ratios of the rounds. It stands with the
// 95 % interval of that median. A row is worse only if the whole interval lies above the limit.
//
//	go run ./pair -base HEAD~10
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
	"github.com/etcdlock/etcdlock/internal/revision"
)

// row is what is measured: for how long, and what it is.
type row struct {
	name  string
	span  time.Duration
	about string
}

var rows = []row{
	{"alone", 500 * time.Millisecond, "lock + unlock of a free name"},
	{"after-2", 500 * time.Millisecond, "lock + unlock of a name that two clients wanted a second ago"},
	{"campaign", 500 * time.Millisecond, "campaign + resign alone"},
	{"retained", 200 * time.Millisecond, "a pair while the key is kept"},
	{"local-100", 300 * time.Millisecond, "100 goroutines of a process, one name"},
	{"names-256", 700 * time.Millisecond, "256 goroutines of a process, a name each"},
	{"processes-2", 700 * time.Millisecond, "2 clients, one name"},
	{"processes-4", time.Second, "4 clients, one name"},
	{"processes-8", 2 * time.Second, "8 clients, one name"},
	{"processes-32", 3 * time.Second, "32 clients, one name"},
	{"processes-128", 6 * time.Second, "128 clients, one name"},
	{"requests-2", 700 * time.Millisecond, "requests a pair: 2 clients, one name"},
	{"requests-4", time.Second, "requests a pair: 4 clients, one name"},
	{"requests-8", 2 * time.Second, "requests a pair: 8 clients, one name"},
	{"requests-32", 3 * time.Second, "requests a pair: 32 clients, one name"},
	{"requests-128", 6 * time.Second, "requests a pair: 128 clients, one name"},
	{"again-8", 2 * time.Second, "8 clients with two goroutines each, in strict turns"},
	{"again-32", 3 * time.Second, "32 clients with two goroutines each, in strict turns"},
	{"again-128", 6 * time.Second, "128 clients with two goroutines each, in strict turns"},
	{"requests-again-8", 2 * time.Second, "requests a pair: as again-8"},
	{"requests-again-32", 3 * time.Second, "requests a pair: as again-32"},
	{"etcd-cpu-32", 3 * time.Second, "processor time of etcd for a pair: 32 clients, one name"},
	{"etcd-cpu-128", 6 * time.Second, "processor time of etcd for a pair: 128 clients, one name"},
	{"clients-cpu-32", 3 * time.Second, "processor time of the clients for a pair: 32 clients, one name"},
	{"clients-cpu-128", 6 * time.Second, "processor time of the clients for a pair: 128 clients, one name"},
	{"handover-5", 700 * time.Millisecond, "from Unlock to a waiter that is 5 ms old"},
	{"handover-250", 1500 * time.Millisecond, "from Unlock to a waiter that is 250 ms old"},
	{"rest-500", 0, "bytes of one of 500 locks that are held"},
}

func main() {
	base := flag.String("base", "", "the revision to measure against (needed)")
	rounds := flag.Int("rounds", 15, "rounds, at least 6")
	limit := flag.Float64("limit", 1.03, "a row is worse if the whole interval of its ratio lies above this")
	only := flag.String("rows", "", "comma-separated rows (default: all)")
	nodes := flag.Int("nodes", 1, "members of the cluster")
	flag.Parse()
	if *base == "" || *rounds < 6 || *nodes < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	worse, err := run(ctx, *base, *rounds, *nodes, *limit, *only)
	stop()
	switch {
	case err != nil:
		say("pair: %v", err)
		os.Exit(1)
	case worse > 0:
		say("%d rows are worse than %s", worse, *base)
		os.Exit(3)
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func run(ctx context.Context, base string, rounds, nodes int, limit float64, only string) (worse int, err error) {
	wanted := rows
	if only != "" {
		names := strings.Split(only, ",")
		wanted = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !slices.Contains(names, r.name) })
		if len(wanted) != len(names) {
			return 0, fmt.Errorf("-rows %s: there are %v", only, rows)
		}
	}
	dir, err := os.MkdirTemp("", "etcdlock-pair-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	then, now, err := revision.Build(ctx, dir, base, "bench", "pair/subject")
	if err != nil {
		return 0, err
	}
	var kids procs.Children
	defer kids.EndAll()
	etcd, err := etcdproc.Given(ctx, "", say)
	if err != nil {
		return 0, err
	}
	cluster, err := etcd.Start(ctx, &kids, etcdproc.Config{Size: nodes, Dir: dir})
	if err != nil {
		return 0, err
	}
	defer cluster.Stop()
	var both [2]*subject
	for i, binary := range []string{then, now} {
		if both[i], err = start(&kids, binary, cluster.Endpoints()); err != nil {
			return 0, err
		}
	}
	ratios := make([][]float64, len(wanted))
	figures := make([][2][]float64, len(wanted))
	for n := range rounds {
		for i, r := range wanted {
			var took [2]float64
			for _, k := range rand.Perm(2) {
				if took[k], err = both[k].measure(ctx, r, fmt.Sprintf("pair/%s/%d/%d", r.name, n, k)); err != nil {
					return 0, fmt.Errorf("%s, %s: %w", r.name, [2]string{base, "now"}[k], err)
				}
				figures[i][k] = append(figures[i][k], took[k])
			}
			ratios[i] = append(ratios[i], took[1]/took[0])
		}
		say("round %d of %d", n+1, rounds)
	}
	return report(base, wanted, figures, ratios, limit), nil
}

// report writes the table, and tells how many rows are worse.
func report(base string, wanted []row, figures [][2][]float64, ratios [][]float64, limit float64) (worse int) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "row\t%s\tnow\tnow / %s\t95 %%\t\twhat\n", base, base)
	for i, r := range wanted {
		low, high := interval(ratios[i])
		verdict := ""
		switch {
		case low > limit:
			verdict = "WORSE"
			worse++
		case high < 1:
			verdict = "better"
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.3f\t%.3f to %.3f\t%s\t%s\n", r.name, median(figures[i][0]), median(figures[i][1]),
			median(ratios[i]), low, high, verdict, r.about)
	}
	_ = w.Flush()
	fmt.Println("Microseconds for each operation, or bytes, or requests; less is better. Medians of the rounds.")
	return worse
}

// subject is a running one.
type subject struct {
	in    io.Writer
	lines *bufio.Scanner
}

func start(kids *procs.Children, binary string, endpoints []string) (*subject, error) {
	cmd := exec.Command(binary, strings.Join(endpoints, ","))
	cmd.Stderr = os.Stderr
	_, in, out, err := kids.Talk(cmd)
	if err != nil {
		return nil, err
	}
	return &subject{in, bufio.NewScanner(out)}, nil
}

func (s *subject) measure(ctx context.Context, r row, name string) (float64, error) {
	if _, err := fmt.Fprintln(s.in, r.name, name, r.span.Seconds()); err != nil {
		return 0, err
	}
	if !s.lines.Scan() {
		return 0, cmp.Or(context.Cause(ctx), s.lines.Err(), errors.New("the subject ended"))
	}
	return strconv.ParseFloat(s.lines.Text(), 64)
}
