package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// nemesis is a fault by name.
type nemesis struct {
	name  string
	about string
	// strike does one round: from a cluster in order to one in order again.
	strike func(context.Context, *scene) error
	// disks prepares where the members keep their data; nil: on the disk.
	disks func(*scene) (*disks, error)
	// single: the first client of each group knows but one member.
	single bool
	// impatient: callers often give up after a short time.
	impatient bool
	// through: the holder continues to hold through the fault, so there is no next holder.
	through bool
}

// nemeses are all of them.
func nemeses() []*nemesis {
	return slices.Concat(calmWeather(), onHolders(), onWaiters(), onMembers(), onLinks(), onDisks())
}

func calmWeather() []*nemesis {
	return []*nemesis{
		{name: "none", about: "no fault, for comparison", through: true, strike: func(ctx context.Context, s *scene) error {
			s.begin()
			s.lasts(ctx, s.ttl+time.Second)
			s.healed()
			return nil
		}},
		{name: "compaction", about: "the history is compacted every 20 ms, and connections break once a second", strike: compact, through: true},
	}
}

func find(names []string) ([]*nemesis, error) {
	all := nemeses()
	if len(names) == 0 {
		return all, nil
	}
	var found []*nemesis
	for _, name := range names {
		i := slices.IndexFunc(all, func(n *nemesis) bool { return n.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no nemesis %q; -list lists them", name)
		}
		found = append(found, all[i])
	}
	return found, nil
}
