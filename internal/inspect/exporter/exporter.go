// Package exporter has the metrics of queues as etcd has them, for when every process of a service is
// dead. Each scrape is one snapshot. The number of names is bounded.
package exporter

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

// Exporter serves the metrics of some names over HTTP.
type Exporter struct {
	Client   *clientv3.Client
	Patience time.Duration // of one snapshot

	Names     []string // each of them has metrics, also while its queue is empty
	Elections []string // as Names, and a queue without a leader is a vacancy
	Prefixes  []string // all names that begin with one have metrics
	MaxNames  int      // of those by a prefix: the first ones that were ever found; further ones are counted as Other

	// Deadlocks finds the deadlocks under a prefix, and describes each.
	Deadlocks func(ctx context.Context, prefix string) ([]string, error)

	mu    sync.Mutex      // held by the present snapshot, so that many scrapes are no load for etcd
	known map[string]bool // names found by a prefix that have series of their own; guarded by mu

	// When holds began, as far as the exporter can tell. Guarded by mu.
	granted map[hold]time.Time // of the last scrape; nil before the first one
	seen    map[hold]time.Time // of this scrape
}

// hold is an entry that holds.
type hold struct {
	key            string
	createRevision int64
}

// Other is the name under which the names beyond MaxNames are counted.
const Other = "_other_"

// mostLeases is how many holders of one name are asked for the rest of their lease.
const mostLeases = 8

// ServeHTTP answers a scrape in the text format of Prometheus.
func (x *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := x.scrape(r.Context())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(s.String()))
}

// scrape takes a snapshot, one at a time.
func (x *Exporter) scrape(ctx context.Context) *snapshot {
	x.mu.Lock()
	defer x.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, x.Patience)
	defer cancel()
	began := time.Now()
	x.seen = make(map[hold]time.Time)
	s, err := x.take(ctx)
	if err != nil {
		s = &snapshot{}
	} else {
		x.granted = x.seen
	}
	s.up, s.took = err == nil, time.Since(began)
	return s
}

// snapshot has the samples of one scrape.
type snapshot struct {
	up        bool
	took      time.Duration
	revision  int64
	stray     int
	deadlocks int
	names     []sample
}

// sample has the figures of one name, or of Other.
type sample struct {
	name             string
	others           bool // true: of all names beyond MaxNames
	holding, waiting int
	oldestWait       time.Duration // by the clocks of the hosts; 0 if not known
	held             time.Duration // of the oldest hold
	left             time.Duration // the shortest rest of a holder's lease
	leased           bool          // true: left is known
	vacant, election bool
}

// take reads all queues once.
func (x *Exporter) take(ctx context.Context) (*snapshot, error) {
	s := &snapshot{}
	seen := make(map[string]bool)
	for _, name := range slices.Concat(x.Names, x.Elections) {
		if seen[name] {
			continue
		}
		seen[name] = true
		q, rev, err := queues.One(ctx, x.Client.KV, name)
		if err != nil {
			return nil, err
		}
		s.revision = max(s.revision, rev)
		if err := x.add(ctx, s, &q, slices.Contains(x.Elections, name)); err != nil {
			return nil, err
		}
	}
	var found []queues.Queue
	deadlocks := make(map[string]bool) // a deadlock can lie under several prefixes
	for _, prefix := range x.Prefixes {
		all, err := queues.All(ctx, x.Client, prefix)
		if err != nil {
			return nil, err
		}
		s.revision = max(s.revision, all.Revision)
		for _, q := range all.Queues {
			if !seen[q.Name] {
				seen[q.Name] = true
				found = append(found, q)
			}
		}
		cycles, err := x.Deadlocks(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, c := range cycles {
			deadlocks[c] = true
		}
	}
	s.deadlocks = len(deadlocks)
	return s, x.addFound(ctx, s, found)
}

// addFound adds queues that were found by a prefix: the first ones by themselves, and all others as one.
// A name keeps its series for as long as the exporter runs, so that names which come and go, such as
// those of orders, make no more series than MaxNames.
func (x *Exporter) addFound(ctx context.Context, s *snapshot, found []queues.Queue) error {
	if x.known == nil {
		x.known = make(map[string]bool)
	}
	slices.SortFunc(found, func(a, b queues.Queue) int { return cmp.Compare(a.Name, b.Name) })
	other := sample{name: Other, others: true}
	more := false
	for i := range found {
		name := found[i].Name
		if !x.known[name] && len(x.known) >= x.MaxNames {
			x.count(s, &found[i], &other)
			more = true
			continue
		}
		x.known[name] = true
		if err := x.add(ctx, s, &found[i], false); err != nil {
			return err
		}
	}
	if more {
		s.names = append(s.names, other)
	}
	return nil
}

// grant is when an entry was granted. etcd keeps no time of it, so it is the first scrape at which the
// entry held. A hold that is older than the exporter counts since its entry came, by the clock of its
// host. A process of the command has left the time of its grant.
func (x *Exporter) grant(e *queues.Entry) time.Time {
	of := hold{e.Key, e.CreateRevision}
	at, ok := x.granted[of]
	if !ok {
		at = time.Now()
		if x.granted == nil && !e.Since.IsZero() {
			at = e.Since
		}
	}
	x.seen[of] = at
	return cmp.Or(e.Granted, at)
}

// count counts the entries of a queue.
func (x *Exporter) count(s *snapshot, q *queues.Queue, to *sample) {
	for i := range q.Entries {
		e := &q.Entries[i]
		if e.Stray() {
			s.stray++
		}
		if e.Holds {
			to.holding++
			to.held = max(to.held, time.Since(x.grant(e)))
			continue
		}
		to.waiting++
		if !e.Since.IsZero() {
			to.oldestWait = max(to.oldestWait, time.Since(e.Since))
		}
	}
}

// add adds the figures of one name.
func (x *Exporter) add(ctx context.Context, s *snapshot, q *queues.Queue, election bool) error {
	m := sample{name: q.Name, election: election || q.Kind == queues.Election}
	x.count(s, q, &m)
	m.vacant = m.holding == 0
	holders := queues.Queue{Name: q.Name, Entries: q.Holders()}
	holders.Entries = holders.Entries[:min(len(holders.Entries), mostLeases)]
	if err := holders.TTLs(ctx, x.Client.Lease); err != nil {
		return err
	}
	for i := range holders.Entries {
		if e := &holders.Entries[i]; !e.Stray() {
			left := time.Duration(e.TTL) * time.Second
			if !m.leased || left < m.left {
				m.left, m.leased = left, true
			}
		}
	}
	s.names = append(s.names, m)
	return nil
}

// String is the snapshot in the text format.
func (s *snapshot) String() string {
	var b strings.Builder
	family(&b, "etcdlock_exporter_up", "1 if etcd has answered this scrape.", one(s.up))
	family(&b, "etcdlock_exporter_scrape_seconds", "How long this scrape took.", s.took.Seconds())
	if !s.up {
		return b.String()
	}
	family(&b, "etcdlock_exporter_revision", "The revision of etcd at this scrape.", float64(s.revision))
	family(&b, "etcdlock_stray_keys", "Keys without a lease, which block a queue until they are deleted.", float64(s.stray))
	family(&b, "etcdlock_deadlocks", "Cycles of waits under the prefixes.", float64(s.deadlocks))
	s.each(&b, "etcdlock_queue_entries", "Entries of a queue.", func(m *sample, put func(float64, ...string)) {
		put(float64(m.holding), "state", "holding")
		put(float64(m.waiting), "state", "waiting")
	})
	s.each(&b, "etcdlock_queue_oldest_wait_seconds", "Age of the oldest waiting entry, by the clock of its host.", func(m *sample, put func(float64, ...string)) {
		put(m.oldestWait.Seconds())
	})
	s.each(&b, "etcdlock_holder_age_seconds", "How long the oldest hold has lasted since the first scrape that saw it, or since its entry came if it is older than the exporter.", func(m *sample, put func(float64, ...string)) {
		put(m.held.Seconds())
	})
	s.each(&b, "etcdlock_holder_lease_remaining_seconds", "Time until the holder's lease expires, unless it is renewed.", func(m *sample, put func(float64, ...string)) {
		if m.leased {
			put(m.left.Seconds())
		}
	})
	s.each(&b, "etcdlock_election_vacant", "1 if an election has no leader.", func(m *sample, put func(float64, ...string)) {
		if m.election {
			put(one(m.vacant))
		}
	})
	return b.String()
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func header(b *strings.Builder, name, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
}

func family(b *strings.Builder, name, help string, value float64) {
	header(b, name, help)
	fmt.Fprintf(b, "%s %s\n", name, number(value))
}

// each writes a family with samples for each name.
func (s *snapshot) each(b *strings.Builder, name, help string, samples func(m *sample, put func(value float64, labels ...string))) {
	header(b, name, help)
	for i := range s.names {
		m := &s.names[i]
		samples(m, func(value float64, labels ...string) {
			fmt.Fprintf(b, "%s{name=\"%s\"", name, escape(label(m.name, m.others)))
			for l := 0; l < len(labels); l += 2 {
				fmt.Fprintf(b, ",%s=\"%s\"", labels[l], labels[l+1])
			}
			fmt.Fprintf(b, "} %s\n", number(value))
		})
	}
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// mostLabel is how long a label is, in bytes. A key in etcd can have a megabyte, and its name is in each
// family.
const mostLabel = 256

// label is the label of a name. Different names have different labels. Of names that are no UTF-8, and
// of one that is Other by chance, it is the quoted name.
func label(name string, others bool) string {
	shown := name
	if !utf8.ValidString(name) || name == Other && !others {
		shown = strconv.Quote(name)
	}
	if len(shown) <= mostLabel {
		return shown
	}
	sum := sha256.Sum256([]byte(name))
	return strings.ToValidUTF8(shown[:mostLabel-20], "") + fmt.Sprintf("... %x", sum[:8])
}

// escape makes a label part of a line.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(name)
}
