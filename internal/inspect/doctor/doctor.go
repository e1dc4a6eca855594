// Package doctor looks for problems of etcd and of the locks in it.
package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// Level is the severity of a finding.
type Level string

// The levels.
const (
	Good     Level = "ok"
	Doubtful Level = "warn"
	Wrong    Level = "FAIL"
)

// Finding is the result of a check.
type Finding struct {
	Level Level  `json:"level"`
	What  string `json:"what"`
	Text  string `json:"text"`
}

// Doctor examines an etcd.
type Doctor struct {
	Client     *clientv3.Client
	Prefix     string
	Patience   time.Duration // for all of it
	Now        func() time.Time
	DefaultTTL time.Duration // of a session
	ReadOnly   bool          // true: permissions and the minimum TTL are not checked, because that writes

	// Deadlocks finds the deadlocks under a prefix, and describes each.
	Deadlocks func(ctx context.Context, prefix string) ([]string, error)

	probe string // the name under which permissions are checked
	found []Finding
}

func (d *Doctor) say(l Level, what, format string, args ...any) {
	d.found = append(d.found, Finding{l, what, fmt.Sprintf(format, args...)})
}

// Examine runs all checks concurrently, so that a member that hangs delays only its own check. Errors
// are findings.
func (d *Doctor) Examine(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, d.Patience)
	defer cancel()
	d.probe = d.Prefix + "etcdlock-doctor-" + strings.ToLower(rand.Text()[:8])
	checks := []func(*Doctor, context.Context){(*Doctor).members, (*Doctor).alarms, (*Doctor).leases, (*Doctor).names, (*Doctor).deadlocks}
	parts := make([]Doctor, len(checks)) // one for each check, with its findings
	var all sync.WaitGroup
	for i, check := range checks {
		parts[i] = *d
		all.Go(func() { check(&parts[i], ctx) })
	}
	all.Wait()
	for i := range parts {
		d.found = append(d.found, parts[i].found...)
	}
	return d.found
}

// members checks each endpoint of the client.
func (d *Doctor) members(ctx context.Context) {
	type answer struct {
		*clientv3.StatusResponse
		took time.Duration
		err  error
	}
	endpoints := d.Client.Endpoints()
	answers := make([]answer, len(endpoints))
	var all sync.WaitGroup
	for i, endpoint := range endpoints {
		all.Go(func() {
			sent := d.Now()
			s, err := d.Client.Status(ctx, endpoint)
			answers[i] = answer{s, d.Now().Sub(sent), err}
		})
	}
	all.Wait()
	versions := make(map[string]bool)
	for i, endpoint := range endpoints {
		s, took := answers[i], answers[i].took
		switch {
		case s.err != nil:
			d.say(Wrong, "member", "%s: %v", endpoint, s.err)
			continue
		case s.Leader == 0:
			d.say(Wrong, "member", "%s: it knows of no raft leader, so it serves no locks; look at the other members", endpoint)
		case len(s.Errors) > 0:
			d.say(Wrong, "member", "%s: %s", endpoint, strings.Join(s.Errors, "; "))
		case took > time.Second:
			d.say(Doubtful, "member", "%s: etcd %s, answers after %v", endpoint, s.Version, took.Round(time.Millisecond))
		default:
			d.say(Good, "member", "%s: etcd %s, raft term %d, answers after %v", endpoint, s.Version, s.RaftTerm, took.Round(100*time.Microsecond))
		}
		versions[s.Version] = true
		if major, _, _ := strings.Cut(s.Version, "."); major != "3" || older(s.Version, 3, 5) {
			d.say(Doubtful, "version", "%s: etcdlock is not tested with etcd %s, which is older than 3.5", endpoint, s.Version)
		}
	}
	if len(versions) > 1 {
		d.say(Doubtful, "version", "the members run different versions: an upgrade is under way or unfinished")
	}
}

// older reports whether a version is before major.minor.
func older(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	ma, errMajor := strconv.Atoi(parts[0])
	mi, errMinor := strconv.Atoi(parts[1])
	return errMajor == nil && errMinor == nil && (ma < major || ma == major && mi < minor)
}

func (d *Doctor) alarms(ctx context.Context) {
	resp, err := d.Client.AlarmList(ctx)
	switch {
	case isDenied(err):
		d.say(Doubtful, "alarms", "this user may not read them")
	case err != nil:
		d.say(Wrong, "alarms", "%v", err)
	case len(resp.Alarms) == 0:
		d.say(Good, "alarms", "none")
	default:
		for _, a := range resp.Alarms {
			d.say(Wrong, "alarms", "member %x: %v: no lock can be acquired until the cause is repaired and the alarm disarmed", a.MemberID, a.Alarm)
		}
	}
}

// leases finds the minimum TTL, and checks whether the user can write, read and delete a key under
// the prefix.
func (d *Doctor) leases(ctx context.Context) {
	if d.ReadOnly {
		return
	}
	lease, err := d.Client.Grant(ctx, 1)
	if err != nil {
		d.say(Wrong, "leases", "etcd grants no lease: %v", err)
		return
	}
	defer func() { _, _ = d.Client.Revoke(ctx, lease.ID) }() // after an error the lease expires
	d.say(Good, "minimum TTL", "%d s; the default of etcdlock lock is %v", lease.TTL, d.DefaultTTL)

	key := wire.Key(d.probe, lease.ID)
	sent := d.Now()
	_, err = d.Client.Put(ctx, key, "", clientv3.WithLease(lease.ID))
	took := d.Now().Sub(sent)
	switch {
	case isDenied(err):
		d.say(Wrong, "permissions", "this user may not write under %q: grant the user readwrite to the prefix, or give doctor a prefix that the user has", d.Prefix)
		return
	case err != nil:
		d.say(Wrong, "permissions", "write of %q: %v", key, err)
		return
	}
	_, err = d.Client.Delete(ctx, key)
	if err == nil {
		from, end := wire.Range(d.probe)
		_, err = d.Client.Get(ctx, from, clientv3.WithRange(end))
	}
	switch {
	case err != nil:
		d.say(Wrong, "permissions", "this user may write under %q, but a delete or a read failed: %v", d.Prefix, err)
	case took > time.Second:
		d.say(Doubtful, "writes", "a write takes %v: use a TTL of many times that", took.Round(time.Millisecond))
	default:
		d.say(Good, "permissions", "this user may read, write and delete under %q; a write takes %v", d.Prefix, took.Round(100*time.Microsecond))
	}
}

func isDenied(err error) bool {
	err = rpctypes.Error(err)
	return err == rpctypes.ErrPermissionDenied || err == rpctypes.ErrUserEmpty //nolint:errorlint // they are comparable values
}

// names checks all names that are in use.
func (d *Doctor) names(ctx context.Context) {
	store, err := queues.All(ctx, d.Client, d.Prefix)
	if err != nil {
		d.say(Wrong, "names", "the keys under %q cannot be read: %v", d.Prefix, err)
		return
	}
	if i := slices.IndexFunc(store.Queues, func(q queues.Queue) bool { return q.Name == d.probe }); i >= 0 {
		store.Queues = slices.Delete(store.Queues, i, i+1)
		store.Keys--
	}
	before := len(d.found)
	leases := 0
	for i := range store.Queues {
		q := &store.Queues[i]
		if err := q.TTLs(ctx, d.Client.Lease); err != nil {
			d.say(Wrong, "names", "the leases of %q cannot be read: %v", q.Name, err)
		}
		leases += d.entries(q)
		d.requests(ctx, q)
	}
	d.nesting(store.Queues)
	d.strays(ctx, store.Others)
	if len(d.found) == before {
		d.say(Good, "names", "%d in use, with %d entries, among %d keys under %q", len(store.Queues), leases, store.Keys, d.Prefix)
	}
}

// entries checks the entries of a name, and returns their number.
func (d *Doctor) entries(q *queues.Queue) int {
	const (
		longTTL = time.Minute
		skew    = 2 * time.Second
	)
	for i := range q.Entries {
		e := &q.Entries[i]
		granted, left := time.Duration(e.GrantedTTL)*time.Second, time.Duration(e.TTL)*time.Second
		switch {
		case e.Stray():
			d.stray(Wrong, e.Key, q.Name)
			continue
		case e.Paused:
			d.say(Good, "pause", "the election is paused for another %v", left)
			continue
		case granted > longTTL:
			d.say(Doubtful, "TTL", "%q: %v; a crashed holder keeps all others out for that long", e.Key, granted)
		}
		if granted > 0 && left < granted/2 {
			d.say(Doubtful, "renewal", "%q: %v of %v are left: its process does not renew the lease, and is stopped, cut off or dead", e.Key, left, granted)
		}
		if ahead := e.Since.Sub(d.Now()); !e.Since.IsZero() && ahead > skew {
			d.say(Doubtful, "clock", "%q entered the queue %v in the future: the clock of %s differs from that of this machine. Locks do not depend on clocks, but the times in ls and show do",
				e.Key, ahead.Round(time.Second), e.Host)
		}
	}
	return len(q.Entries)
}

// strays looks for keys without a lease under names that are not in use. Without a prefix it cannot
// tell which names are those of locks. It then has only keys in the form of a queue entry, and a
// finding is doubtful.
func (d *Doctor) strays(ctx context.Context, keys []string) {
	stray, err := queues.WithoutLease(ctx, d.Client.KV, keys)
	if err != nil {
		d.say(Doubtful, "stray key", "the keys without a lease cannot be found: %v", err)
		return
	}
	level := Wrong
	if d.Prefix == "" {
		level = Doubtful
	}
	const most = 20
	for i, key := range stray {
		if i == most {
			d.say(level, "stray key", "%d more keys without a lease would block a lock", len(stray)-most)
			break
		}
		name, _ := wire.NameOf(key)
		d.stray(level, key, name)
	}
}

func (d *Doctor) stray(l Level, key, name string) {
	d.say(l, "stray key", "%[1]s has no lease, so it blocks a lock named %[2]s until it is deleted. If no program needs the key: etcdlock evict --entry %[1]s %[2]s", wire.Quote(key), wire.Quote(name))
}

func (d *Doctor) requests(ctx context.Context, q *queues.Queue) {
	rs, err := queues.Requests(ctx, d.Client.KV, q.Name)
	if err != nil {
		return // the check of permissions reports it
	}
	for _, r := range rs {
		d.say(Doubtful, "asked for", "%q: %s on %s asks its holder to release, for %v: %s", q.Name, cmp.Or(r.Owner, "an unnamed process"), r.Host, d.Now().Sub(r.Since).Round(time.Second), r.Reason)
	}
}

func (d *Doctor) nesting(qs []queues.Queue) {
	used := make(map[string]bool)
	for i := range qs {
		used[qs[i].Name] = true
	}
	for i := range qs {
		for outer := range wire.Ancestors(qs[i].Name) {
			if used[outer] {
				d.say(Wrong, "nested names", "%q is inside %q, so the two wait for each other's keys: rename one of them", qs[i].Name, outer)
			}
		}
	}
}

// deadlocks looks for deadlocks. The check of names reports an error of etcd.
func (d *Doctor) deadlocks(ctx context.Context) {
	found, err := d.Deadlocks(ctx, d.Prefix)
	if err == nil && len(found) == 0 {
		d.say(Good, "deadlocks", "none found")
	}
	for _, f := range found {
		d.say(Wrong, "deadlock", "%s", f)
	}
}
