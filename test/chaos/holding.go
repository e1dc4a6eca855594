package main

import (
	"cmp"
	"slices"
	"time"
)

// holding is a time in which a client believed that it held.
type holding struct {
	Client   string        `json:"client"`
	Name     string        `json:"name"`
	Key      string        `json:"key"`
	Token    int64         `json:"token"`
	Entry    int64         `json:"entry,omitempty"` // the key's CreateRevision, as etcd says
	Weight   int           `json:"weight"`
	Call     instant       `json:"call"` // when it asked
	From     instant       `json:"from"` // when it was granted
	To       instant       `json:"to"`   // when it stopped to believe
	End      what          `json:"end"`  // why: over, lost, killed, stopped
	Gone     instant       `json:"gone"` // when it was known that the key was gone; 0: never
	Freed    instant       `json:"-"`    // when a release was confirmed; 0: it was not
	Told     time.Duration `json:"told,omitempty"`
	Late     string        `json:"late,omitempty"`
	Unforced bool          `json:"unforced,omitempty"` // lost although no fault was on the client
}

// marks are what the runner did to a client.
type marks struct {
	killed        instant
	stops, struck []span
}

func marksOf(events []event) map[string]*marks {
	all := map[string]*marks{}
	end := func(spans []span, at instant) {
		if n := len(spans); n > 0 && spans[n-1].to == 0 {
			spans[n-1].to = at
		}
	}
	for _, e := range events {
		m := all[e.Client]
		if m == nil {
			m = &marks{}
			all[e.Client] = m
		}
		switch e.What {
		case wasKilled:
			m.killed = e.At
		case wasStopped:
			m.stops = append(m.stops, span{from: e.At})
		case wasResumed:
			end(m.stops, e.At)
		case wasCut:
			m.struck = append(m.struck, span{from: e.At})
		case wasHealed:
			end(m.struck, e.At)
		default: // told by the client
		}
	}
	return all
}

// holdings are what the clients believed, in the order in which they were granted. A
// process that is killed believes until then. A stopped one does not act: it believes
// until it is stopped, and what it does when it goes on, before it is told, is for the
// fence at the resource to refuse.
func holdings(events []event, ttl time.Duration) []*holding {
	marked := marksOf(events)
	type place struct{ client, name string }
	open := map[place]*holding{}
	var all []*holding
	for _, e := range events {
		p := place{e.Client, e.Name}
		switch h := open[p]; e.What {
		case isHeld:
			open[p] = &holding{Client: e.Client, Name: e.Name, Key: e.Key, Token: e.Token, Weight: e.Weight, Call: e.Call, From: e.At}
			all = append(all, open[p])
		case isOver, isLost:
			h.To, h.End, h.Late = e.At, e.What, e.Late
			h.Unforced = e.What == isLost && !marked[e.Client].within(e.At, ttl)
			for _, stop := range marked[e.Client].stops {
				if h.From < stop.from && stop.from < e.At && stop.to <= e.At {
					h.Told = e.At.sub(stop.to)
					h.To, h.End = stop.from, wasStopped
					break
				}
			}
		case isFreed:
			if e.Error == "" && h.End == isOver {
				h.Freed = e.At
			}
			delete(open, p)
		default: // says nothing about a hold
		}
	}
	for _, h := range open {
		if h.To == 0 {
			h.To, h.End = max(h.From, marked[h.Client].killed), wasKilled
		}
	}
	slices.SortStableFunc(all, func(a, b *holding) int { return cmp.Compare(a.From, b.From) })
	return all
}

// within tells whether a fault was on the client at that time, or so shortly before
// that the loss is its doing.
func (m *marks) within(at instant, ttl time.Duration) bool {
	for _, s := range m.struck {
		if at >= s.from && (s.to == 0 || at <= s.to.add(ttl)) {
			return true
		}
	}
	return false
}
