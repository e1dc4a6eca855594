package etcdlocktest

import "time"

// Option changes what [Run], [New] and [Real] do by default.
type Option interface{ apply(*config) }

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

// config holds every default in one place.
type config struct {
	seed            uint64
	lowest, highest time.Duration // the latency of each direction; both 0: those of simetcd
	minTTL          time.Duration
	patience        time.Duration // how long a wait takes at most
	bubble          bool          // the test runs in virtual time
}

// Waits of tests are bounded by these times, unless [WithPatience] says otherwise.
const (
	virtualPatience = time.Hour
	wallPatience    = time.Minute
)

func newConfig(opts []Option) config {
	c := config{seed: 1, bubble: inBubble(), patience: wallPatience}
	if c.bubble {
		c.patience = virtualPatience
	}
	for _, o := range opts {
		o.apply(&c)
	}
	return c
}

// WithSeed sets the seed from which latencies are drawn, 1 by default. In virtual time a seed gives
// the same run each time, as far as the code under test does. [Real] ignores it.
func WithSeed(seed uint64) Option { return optionFunc(func(c *config) { c.seed = seed }) }

// WithLatency sets the bounds of the latency between a process and etcd, in each direction. They are
// 0.5 ms and 1.5 ms by default. [Real] ignores it; see [Process.Delay].
func WithLatency(lowest, highest time.Duration) Option {
	return optionFunc(func(c *config) { c.lowest, c.highest = max(lowest, 1), max(highest, 1) })
}

// WithMinTTL sets the shortest TTL that etcd grants, 1 s by default. A real etcd grants 2 s by
// default. [Real] ignores it.
func WithMinTTL(ttl time.Duration) Option { return optionFunc(func(c *config) { c.minTTL = ttl }) }

// WithPatience sets how long a wait such as [Etcd.AwaitHeldBy] takes before it fails the test. It is
// an hour of virtual time, or a minute by the wall clock.
func WithPatience(d time.Duration) Option { return optionFunc(func(c *config) { c.patience = d }) }
