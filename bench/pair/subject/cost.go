package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// cost is what the pairs of all callers have cost so far, or what one of them costs.
type cost struct {
	pairs, writes, reads, watches float64
	syncs                         float64       // of the log of the first member of etcd, as each handover waits for them
	etcd, clients                 time.Duration // of processor time, of all members and of this process
}

// costs are the rows that cost has: a beginning of the name of a row.
var costs = map[string]func(c cost) float64{
	"requests-":    func(c cost) float64 { return c.writes + c.reads + c.watches },
	"etcd-cpu-":    func(c cost) float64 { return micros(c.etcd) },
	"clients-cpu-": func(c cost) float64 { return micros(c.clients) },
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// costRow splits the name of a row into which cost it asks for, nil for none, and of which row.
func costRow(row string) (of string, ask func(c cost) float64) {
	for begins, ask := range costs {
		if of, is := strings.CutPrefix(row, begins); is {
			if !strings.Contains(of, "-") {
				of = "processes-" + of
			}
			return of, ask
		}
	}
	return row, nil
}

func (c cost) less(before cost) cost {
	return cost{
		c.pairs - before.pairs, c.writes - before.writes, c.reads - before.reads, c.watches - before.watches,
		c.syncs - before.syncs, c.etcd - before.etcd, c.clients - before.clients,
	}
}

func (c cost) each() cost {
	n := c.pairs
	return cost{1, c.writes / n, c.reads / n, c.watches / n, c.syncs / n, time.Duration(float64(c.etcd) / n), time.Duration(float64(c.clients) / n)}
}

func (c cost) String() string {
	return fmt.Sprintf("a pair: %.3f writes, %.3f reads, %.3f watch messages, %.3f syncs of etcd's log, and %.0f and %.0f µs of processor time of etcd and of the clients",
		c.writes, c.reads, c.watches, c.syncs, micros(c.etcd), micros(c.clients))
}

// perPair returns what a pair of all callers costs. It counts in the second half of the time, because the
// first pairs of a session cost more.
func (s *subject) perPair(ctx context.Context, span time.Duration, callers []caller) (cost, error) {
	var done atomic.Int64
	all := make([]caller, len(callers))
	for i, call := range callers {
		all[i] = func(ctx context.Context) error {
			err := call(ctx)
			if err == nil {
				done.Add(1)
			}
			return err
		}
	}
	half := make(chan cost, 1)
	time.AfterFunc(span/2, func() { half <- s.spent(&done) })
	if _, err := s.pairs(ctx, span, all); err != nil {
		return cost{}, err
	}
	return s.spent(&done).less(<-half).each(), nil
}

// spent returns what was spent so far.
func (s *subject) spent(done *atomic.Int64) cost {
	c := cost{
		pairs: float64(done.Load()), writes: float64(s.requests.writes.Load()),
		reads: float64(s.requests.reads.Load()), watches: float64(s.requests.watches.Load()),
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err == nil {
		c.clients = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	for i, endpoint := range s.endpoints {
		seconds, syncs := memberSpent(endpoint)
		c.etcd += time.Duration(seconds * float64(time.Second))
		if i == 0 {
			c.syncs = syncs
		}
	}
	return c
}

// memberSpent returns the processor time of a member of etcd, in seconds, and how often it has synced its
// log. A member that does not tell counts as 0.
func memberSpent(endpoint string) (seconds, syncs float64) {
	resp, err := http.Get(endpoint + "/metrics")
	if err != nil {
		return 0, 0
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		switch name, value, _ := strings.Cut(lines.Text(), " "); name {
		case "process_cpu_seconds_total":
			seconds, _ = strconv.ParseFloat(value, 64)
		case "etcd_disk_wal_fsync_duration_seconds_count":
			syncs, _ = strconv.ParseFloat(value, 64)
		}
	}
	return seconds, syncs
}

// report says on standard error what a pair costs.
func (c cost) report(row string) { fmt.Fprintf(os.Stderr, "%s: %v\n", row, c) }
