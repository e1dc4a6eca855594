package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// The time without a leader is measured from outside. A leader and a candidate are
// processes, and a third process ends the leader. The candidate records when its work
// begins, on the clock that all processes share.

// takeover is one way for a leader to go.
type takeover struct {
	what       string
	contestant string
	ttl        time.Duration
	runs       int
	detect     bool // crash detection
	restart    bool // killed, and started again with its lease file
	kill       bool // killed
	switchover bool // asked from another process
	whole      bool // measured from the request
}

func takeovers(runs int) []takeover {
	both := func(t takeover) (all []takeover) {
		for _, t.contestant = range []string{ofEtcd, ofOurs} {
			all = append(all, t)
		}
		return all
	}
	all := both(takeover{what: "Resign", ttl: 10 * time.Second, runs: 4 * runs})
	for _, ttl := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second} {
		all = append(all, both(takeover{what: fmt.Sprintf("kill -9, TTL %v", ttl), ttl: ttl, runs: runs, kill: true})...)
	}
	for _, of := range []string{ofEtcd, ofOurs, ofPoll} {
		all = append(all,
			takeover{what: "switchover, after the end of the old work", contestant: of, ttl: 10 * time.Second, runs: 2 * runs, switchover: true},
			takeover{what: "switchover, from the request", contestant: of, ttl: 10 * time.Second, runs: 2 * runs, switchover: true, whole: true})
	}
	return append(all,
		takeover{what: "kill -9, TTL 10s, crash detection", contestant: ofOurs, ttl: 10 * time.Second, runs: 4 * runs, kill: true, detect: true},
		takeover{what: "kill -9 and restart, TTL 10s, lease file", contestant: ofOurs, ttl: 10 * time.Second, runs: 2 * runs, kill: true, restart: true},
	)
}

func electionsMain(args []string) int {
	set := flag.NewFlagSet("elections", flag.ExitOnError)
	runs := set.Int("runs", 5, "crashes for each row; resignations and detected crashes four times as many")
	nodes := set.Int("nodes", 3, "members of the cluster")
	binary := set.String("etcd", "", "an etcd binary (default: "+etcdproc.Version+" is built once)")
	_ = set.Parse(args) // it exits
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := elections(ctx, *binary, *nodes, *runs); err != nil {
		say("elections: %v", err)
		return 1
	}
	return 0
}

// elections measures all of them on a cluster of its own, and prints the table.
func elections(ctx context.Context, binary string, nodes, runs int) error {
	etcd, err := etcdproc.Given(ctx, binary, say)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "etcdlock-elections-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var kids procs.Children
	defer kids.EndAll()
	defer context.AfterFunc(ctx, kids.EndAll)()
	c, err := etcd.Start(ctx, &kids, etcdproc.Config{Size: nodes, Dir: dir})
	if err != nil {
		return err
	}
	defer c.Stop()

	list := takeovers(runs)
	took := make([][]float64, len(list))
	e := electorate{kids: &kids, where: servers{Etcd: c.Endpoints()}, dir: dir}
	// One after the other what is quick, so that nothing disturbs it; then the crashes, of
	// which each waits for most of its time, all at once.
	for i, t := range list {
		if t.detect || t.restart || !t.kill {
			for n := range t.runs {
				d, err := e.changeOver(t, i, n)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", t.contestant, t.what, errors.Join(context.Cause(ctx), err))
				}
				took[i] = append(took[i], d.Seconds())
			}
		}
	}
	var all errgroup.Group
	for i, t := range list {
		if !t.kill || t.detect || t.restart {
			continue
		}
		took[i] = make([]float64, t.runs)
		for n := range t.runs {
			all.Go(func() error {
				// Each at another phase between two renewals, a third of the TTL apart.
				d, err := e.takeOver(t, i, n, t.ttl/2+time.Duration(n)*t.ttl/time.Duration(3*t.runs))
				took[i][n] = d.Seconds()
				return err
			})
		}
	}
	if err := all.Wait(); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return writeTakeovers(os.Stdout, etcd.Version, nodes, list, took)
}

func writeTakeovers(out io.Writer, etcd string, nodes int, list []takeover, took [][]float64) error {
	env := survey(os.TempDir(), etcd)
	_, _ = fmt.Fprintf(out, "Without a leader, in seconds, from the end of one leader's work, or its kill -9, to the next one's beginning.\n"+
		"%d etcd %s processes, a process for each candidate; %s, %s, %d CPUs, load %s\n\n",
		nodes, env.Etcd, env.OS, env.Go, env.CPUs, env.Load)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "how the leader goes\tlibrary\truns\tshortest\tmedian\tlongest")
	for i, t := range list {
		s := summarize(took[i])
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%.3f\t%.3f\t%.3f\n", t.what, t.contestant, len(took[i]), s.Min, s.Median, s.Max)
	}
	return w.Flush()
}

// electorate has elections with processes.
type electorate struct {
	kids  *procs.Children
	where servers
	dir   string
}

// changeOver runs one election of a quick row. A polled key is asked at another phase of its rounds each
// time.
func (e electorate) changeOver(t takeover, row, n int) (time.Duration, error) {
	if t.switchover {
		return e.switchOver(t, row, n, time.Second+time.Duration(n)*t.ttl/time.Duration(3*t.runs))
	}
	return e.takeOver(t, row, n, time.Second)
}

// takeOver runs one election, and returns how long there was no leader. The leader leaves when both
// candidates have waited or led for the time after.
func (e electorate) takeOver(t takeover, row, n int, after time.Duration) (time.Duration, error) {
	name := fmt.Sprintf("bench/elections/%d/%d", row, n)
	o := order{Do: doStand, Contestant: t.contestant, Where: e.where, Name: name, TTL: t.ttl, Detect: t.detect}
	first := o
	if t.restart {
		first.File = filepath.Join(e.dir, fmt.Sprintf("lease-%d-%d", row, n))
	}
	leader, began, err := e.elect(first)
	if err != nil {
		return 0, err
	}
	defer leader.Kill()
	heir, err := hire(e.kids)
	if err != nil {
		return 0, err
	}
	defer heir.Kill()
	if _, err := heir.tell(o); err != nil {
		return 0, err
	}
	led := make(chan result, 1)
	go func() {
		r, err := heir.tell(order{Do: doLead})
		led <- result{r, err}
	}()
	time.Sleep(after)
	select {
	case r := <-led:
		return 0, errors.Join(r.err, errors.New("two lead at one time"))
	default:
	}
	ended := clock.now()
	next := result{}
	switch {
	case t.restart:
		leader.Kill()
		again, r, err := e.elect(first)
		if err != nil {
			return 0, err
		}
		defer again.Kill()
		if r.Key != began.Key {
			return 0, fmt.Errorf("it was started again and leads by %s, not by %s", r.Key, began.Key)
		}
		time.Sleep(t.ttl + time.Second)
		select {
		case r := <-led:
			return 0, errors.Join(r.err, errors.New("there was an election all the same"))
		default:
		}
		next = result{r, nil}
	case t.kill:
		leader.Kill()
		next = <-led
	default:
		resigned := make(chan error, 1)
		go func() {
			_, err := leader.tell(order{Do: doResign})
			resigned <- err
		}()
		next = <-led
		if err := <-resigned; err != nil {
			return 0, err
		}
	}
	if next.err == nil && next.reply.Token <= began.Token {
		next.err = fmt.Errorf("token %d after %d", next.reply.Token, began.Token)
	}
	return time.Duration(next.reply.At - ended), next.err
}

type result struct {
	reply reply
	err   error
}

// elect starts a process that stands, and waits until it leads.
func (e electorate) elect(o order) (*hand, reply, error) {
	h, err := hire(e.kids)
	if err != nil {
		return nil, reply{}, err
	}
	_, err = h.tell(o)
	var r reply
	if err == nil {
		r, err = h.tell(order{Do: doLead})
	}
	if err != nil {
		h.Kill()
		return nil, r, err
	}
	return h, r, nil
}
