package lockui

import (
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/doctor"
)

// checkEvery is the minimum time between two examinations, which read all leases.
const checkEvery = 20 * time.Second

// checkup is the last examination of etcd. It is repeated while a viewer looks at it.
type checkup struct {
	h       *Handler
	version atomic.Uint64

	mu    sync.Mutex
	found *checksPage
	began time.Time // of the last examination
}

func newCheckup(h *Handler) *checkup { return &checkup{h: h} }

// checksPage is what the doctor has found.
type checksPage struct {
	Findings []doctor.Finding `json:"findings"`
	At       time.Time        `json:"at,omitzero"` // zero before the first examination has ended
	Wrong    int              `json:"wrong"`
	Doubtful int              `json:"doubtful"`
}

// latest returns the last examination, and begins the next one if it is due.
func (c *checkup) latest() *checksPage {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.began) > checkEvery && c.h.begin() {
		c.began = time.Now()
		go func() {
			defer c.h.tasks.Done()
			c.examine()
		}()
	}
	if c.found == nil {
		return &checksPage{Findings: []doctor.Finding{}}
	}
	return c.found
}

// examine reads etcd and writes nothing.
func (c *checkup) examine() {
	d := doctor.Doctor{
		Client: c.h.client, Prefix: c.h.cfg.prefix, Patience: patience, Now: time.Now,
		DefaultTTL: etcdlock.DefaultTTL, ReadOnly: true, Deadlocks: c.h.describeDeadlocks,
	}
	p := &checksPage{Findings: d.Examine(c.h.life), At: time.Now()}
	for _, f := range p.Findings {
		switch f.Level {
		case doctor.Wrong:
			p.Wrong++
		case doctor.Doubtful:
			p.Doubtful++
		case doctor.Good:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = p
	c.version.Add(1)
}

func (h *Handler) checks(url.Values) (*shown, error) { return &shown{"Doctor", h.doctor.latest()}, nil }

func trim(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
