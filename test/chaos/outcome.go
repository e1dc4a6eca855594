package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// outcome is what a nemesis did.
type outcome struct {
	Nemesis string        `json:"nemesis"`
	About   string        `json:"about"`
	Skipped string        `json:"skipped,omitempty"` // why
	Rounds  int           `json:"rounds"`
	Took    time.Duration `json:"took_ns"`
	Groups  []*figures    `json:"groups"`
	Stuck   []string      `json:"stuck,omitempty"` // clients never granted again after the fault
	Notes   []string      `json:"notes,omitempty"`
	Revoked int           `json:"revoked,omitempty"` // leases that lived, revoked by etcd
	Events  []event       `json:"-"`

	// The longest times in which no member answered, in seconds.
	NoRenewals float64 `json:"no_renewals_s"`
	NoWrites   float64 `json:"no_writes_s"`
}

// figures are the measurements of a group.
type figures struct {
	Library string `json:"library"`
	Kind    string `json:"kind"`

	Operations int           `json:"operations"` // grants of the shared name
	Overlap    time.Duration `json:"overlap_ns"` // the worst; negative: the shortest gap
	Exclusive  bool          `json:"exclusive"`  // whether there is an overlap to speak of
	Next       []float64     `json:"next_s"`     // from the fault to the next holder, a round each
	Forced     int           `json:"forced"`     // holds lost by a client that a fault was on
	Outage     int           `json:"outage"`     // holds lost while no member answered
	Unforced   int           `json:"unforced"`   // holds lost otherwise, for nothing
	Told       []float64     `json:"told_ms"`    // from SIGCONT until it was told
	Refused    int           `json:"refused"`    // writes that the resource refused
	Stuck      int           `json:"stuck"`
	Left       leftover      `json:"left"`
	History    verdict       `json:"history"`
	Why        string        `json:"why,omitempty"` // where it breaks
	Violations []string      `json:"violations,omitempty"`
}

// judge looks at everything that a group's clients told.
func judge(s *scene, g *group, seen *evidence, asked *probe, left *leftover, o *outcome) *figures {
	var events []event
	for _, e := range s.book.all() {
		if strings.HasPrefix(e.Client, g.library.name+"-"+g.kind.name+"-") {
			events = append(events, e)
		}
	}
	holds := holdings(events, s.ttl)
	f := &figures{Library: g.library.name, Kind: g.kind.name, Overlap: none, Left: *left}
	f.Violations = proven(holds, seen, g.library.name == ours.name)
	v, err := check(g.kind, holds, seen.told(holds))
	if f.History = v; err != nil {
		f.Why = err.Error()
	}
	for name, of := range names(holds) {
		if d := overlap(of, g.kind.capacity); d != none {
			f.Overlap, f.Exclusive = max(f.Overlap, d), true
		}
		f.Violations = append(f.Violations, tokens(of, g.kind.capacity)...)
		f.Refused += s.resource.refusals(name)
	}
	for _, h := range holds {
		if h.Name == g.shared {
			f.Operations++
		}
		switch {
		case h.Unforced && asked.excuses(h.To, s.ttl):
			f.Outage++
		case h.Unforced:
			f.Unforced++
		case h.End == isLost, h.End == wasStopped:
			f.Forced++
		}
		if h.End == wasStopped {
			f.Told = append(f.Told, float64(h.Told)/float64(time.Millisecond))
		}
	}
	if !s.nemesis.through {
		for _, d := range successions(events, s.spans, g.shared) {
			f.Next = append(f.Next, d.Seconds())
		}
	}
	for _, id := range o.Stuck {
		if strings.HasPrefix(id, g.library.name+"-"+g.kind.name+"-") {
			f.Stuck++
		}
	}
	return f
}

// broken are the promises that were not kept, in words.
func (f *figures) broken() (all []string) {
	if f.Exclusive && f.Overlap > 0 {
		all = append(all, fmt.Sprintf("two held for %v", f.Overlap))
	}
	all = append(all, f.Violations...)
	if f.History != sound {
		all = append(all, "the history is "+string(f.History)+": "+f.Why)
	}
	if f.Left != (leftover{}) {
		all = append(all, fmt.Sprintf("left behind: %d keys of sessions at rest; %d keys and %d leases after their end", f.Left.Idle, f.Left.Keys, f.Left.Leases))
	}
	if f.Stuck > 0 {
		all = append(all, fmt.Sprintf("%d clients were not granted again", f.Stuck))
	}
	return all
}

// failures are the promises of etcdlock that were not kept.
func failures(outcomes []*outcome) (all []string) {
	for _, o := range outcomes {
		for _, f := range o.Groups {
			if f.Library != ours.name {
				continue
			}
			for _, b := range f.broken() {
				all = append(all, fmt.Sprintf("%s, %s: %s", o.Nemesis, f.Kind, b))
			}
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// of finds the figures of a library for a kind.
func (o *outcome) of(library, kind string) *figures {
	for _, f := range o.Groups {
		if f.Library == library && f.Kind == kind {
			return f
		}
	}
	return nil
}
