package main

import "sync"

// checks collects what the referee found. One offence makes the program fail.
type checks struct {
	mu  sync.Mutex
	All []check
}

type check struct {
	Where string `json:"where"`
	verdict
}

func (c *checks) add(where string, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, known := range c.All {
		if known.Where == where {
			c.All[i].verdict = known.add(v)
			return
		}
	}
	c.All = append(c.All, check{where, v})
}

// sum covers all checks, and failed has the ones that the referee refused.
func (c *checks) sum() (v verdict, failed []check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.All {
		v = v.add(one.verdict)
		if !one.ok() {
			failed = append(failed, one)
		}
	}
	return v, failed
}
