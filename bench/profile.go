package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// profiler takes CPU profiles of the measuring and contending processes and of etcd, for
// exactly the measured times. A nil profiler takes none.
//
// A profile of etcd does not show which contestant caused the work. With profiles the
// contestants therefore do not alternate, and each runs longer than a figure needs. The
// figures of such a run are worth less than its shares.
type profiler struct {
	dir   string // where they are written
	tmp   string // where workers leave theirs
	etcd  []*etcdproc.Member
	cases []*profiled
}

// profiled is a case of one contestant, all rounds together.
type profiled struct {
	spot          // without a metric
	acts          int
	lasted        time.Duration
	clients, etcd usage
}

// usage is what some processes have used together.
type usage struct {
	processor time.Duration
	profiles  []*profile.Profile
}

func (u *usage) add(p *profile.Profile, processor time.Duration) {
	u.profiles = append(u.profiles, p)
	u.processor += processor
}

func newProfiler(dir, tmp string) (*profiler, error) {
	return &profiler{dir: dir, tmp: tmp}, os.MkdirAll(dir, 0o755)
}

// of is the case of a spot.
func (p *profiler) of(at spot) *profiled {
	at.Metric = ""
	for _, c := range p.cases {
		if c.spot == at {
			return c
		}
	}
	c := &profiled{spot: at}
	p.cases = append(p.cases, c)
	return c
}

// during profiles this process and etcd while it does something, which returns how often
// it did it.
func (p *profiler) during(ctx context.Context, at spot, do func() (acts int, err error)) error {
	if p == nil {
		_, err := do()
		return err
	}
	server, err := p.takeEtcd(ctx)
	if err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond) // in which etcd starts with it, and has nothing else to do
	self, err := takeSelf()
	if err != nil {
		return errors.Join(err, server.end(&usage{}))
	}
	began := time.Now()
	acts, err := do()
	lasted := time.Since(began)
	text, processor, errSelf := self.end()
	c := p.of(at)
	if err := errors.Join(err, errSelf, server.end(&c.etcd)); err != nil {
		return err
	}
	own, err := profile.ParseData(text)
	if err != nil {
		return err
	}
	c.clients.add(own, processor)
	c.acts += acts
	c.lasted += lasted
	return nil
}

// crowd profiles workers, and etcd, from o.From until o.Until.
func (p *profiler) crowd(ctx context.Context, at spot, o order, tell func(order) ([]reply, error)) ([]reply, error) {
	if p == nil {
		return tell(o)
	}
	o.Profile = filepath.Join(p.tmp, "profile")
	server, err := p.takeEtcd(ctx)
	if err != nil {
		return nil, err
	}
	c := p.of(at)
	ended := make(chan error, 1)
	go func() {
		clock.sleepUntil(o.Until)
		ended <- server.end(&c.etcd)
	}()
	replies, err := tell(o)
	if err := errors.Join(err, <-ended); err != nil {
		return nil, err
	}
	for i, r := range replies {
		file := fmt.Sprintf("%s-%d", o.Profile, i)
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		own, err := profile.ParseData(text)
		if err := errors.Join(err, os.Remove(file)); err != nil {
			return nil, err
		}
		c.clients.add(own, r.Processor)
		c.acts += r.Count
	}
	c.lasted += time.Duration(o.Until - o.From)
	return replies, nil
}

// serverTake is the profiles of all members.
type serverTake []*etcdTake

func (p *profiler) takeEtcd(ctx context.Context) (serverTake, error) {
	var all serverTake
	for _, m := range p.etcd {
		t, err := takeEtcd(ctx, m.Endpoint, m.Pid())
		if err != nil {
			return nil, errors.Join(err, all.end(&usage{}))
		}
		all = append(all, t)
	}
	return all, nil
}

func (s serverTake) end(to *usage) error {
	var all error
	for _, t := range s {
		p, processor, err := t.end()
		if err == nil {
			to.add(p, processor)
		}
		all = errors.Join(all, err)
	}
	return all
}

// write leaves a file for each case, contestant and kind of process, and a report.
func (p *profiler) write() error {
	var report strings.Builder
	fmt.Fprintln(&report, "# Where the processor time goes")
	writeUsages(&report, p.cases)
	if err := os.WriteFile(filepath.Join(p.dir, "profiles.md"), []byte(report.String()), 0o644); err != nil {
		return err
	}
	for _, c := range p.cases {
		for who, u := range map[string]usage{"clients": c.clients, "etcd": c.etcd} {
			if len(u.profiles) == 0 {
				continue
			}
			name := fmt.Sprintf("%s.%s.%s.%s.%s.prof", c.Suite, slug(c.Case), slug(c.Contestant), who, slug(nodeCount(c.Nodes)))
			if err := writeProfile(filepath.Join(p.dir, name), u.profiles); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeProfile(file string, profiles []*profile.Profile) error {
	all, err := profile.Merge(profiles)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(all.Write(f), f.Close())
}

// slug is a text as a part of a file's name.
func slug(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return strings.Join(words, "-")
}

func nodeCount(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
