package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// bench is what a suite gets: one cluster, and where to put what it measured.
type bench struct {
	plan
	nodes   int // of the present cluster
	where   servers
	others  []contestant // on servers of other kinds
	crew    *crew
	book    *book
	checks  *checks
	dir     string // for what workers report in files
	run     string // begins the names of this run
	noMutex bool   // quick: leave out what no target asks for
	profile *profiler
}

// suite measures one thing.
type suite struct {
	name  string
	about string
	run   func(ctx context.Context, b *bench) error
}

// suites in the order in which they run.
func suites() []suite {
	return []suite{
		{"alone", "a pair of lock and unlock, campaign and resign, try and unlock, with nobody else there", alone},
		{"handover", "from the call of Unlock until the next one's Lock returns, by the age of the waiter", handover},
		{"processes", "acquisitions a second of processes that contend for one name", processes},
		{"goroutines", "the same of goroutines of one process, and of several", goroutines},
		{"storm", "how long a name stays free while clients give up and come again, and come and go", storm},
		{"names", "pairs a second of callers of one process with a name each", manyNames},
		{"growth", "from Unlock until the next Lock returns, by the number of idle entries behind", growth},
		{"deep", "time to be in line behind many", deep},
		{"retention", "a pair with the key kept, and what the next stranger waits", retention},
		{"rest", "goroutines, bytes and keepalives at rest", rest},
		{"failover", "from the crash of a holder until the next one holds", failover},
	}
}

// contestants take part in the measurements that every lock allows.
func (b *bench) contestants() []contestant {
	list := onEtcd()
	if b.nodes == b.plan.nodes[0] {
		list = append(list, b.others...) // once: they do not depend on the size of the etcd
	}
	if b.noMutex {
		list = slices.DeleteFunc(list, func(c contestant) bool { return c.key == theMutex })
	}
	return list
}

// onEtcdOnly are the contestants with locks in etcd.
func (b *bench) onEtcdOnly() []contestant { return onEtcd() }

// name is a lock's name that nobody has used.
func (b *bench) name(format string, args ...any) string {
	return fmt.Sprintf("bench/%s/%d/", b.run, b.nodes) + fmt.Sprintf(format, args...)
}

// inTurns has those at the spots do something a number of times each: alternating, or one
// after the other for a profile of each.
func (b *bench) inTurns(ctx context.Context, times int, at []spot, do func(who, turn int) error) error {
	once := func(who, turn int) error {
		if err := do(who, turn); err != nil {
			return fmt.Errorf("%s: %w", at[who].Contestant, err)
		}
		return nil
	}
	if b.profile == nil {
		for turn := range times {
			for who := range at {
				if err := once(who, turn); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for who := range at {
		err := b.profile.during(ctx, at[who], func() (int, error) {
			for turn := range times {
				if err := once(who, turn); err != nil {
					return 0, err
				}
			}
			return times, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// member is a contestant's session on a connection of its own.
type member struct {
	session
	link link
}

func join(ctx context.Context, c contestant, where servers) (*member, error) {
	return joinTTL(ctx, c, where, sessionTTL)
}

func joinTTL(ctx context.Context, c contestant, where servers, ttl time.Duration) (*member, error) {
	l, err := c.dial(ctx, where)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.key, err)
	}
	s, err := l.session(ctx, ttl)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%s: %w", c.key, err)
	}
	return &member{s, l}, nil
}

func (m *member) close() {
	m.session.close()
	m.link.close()
}
