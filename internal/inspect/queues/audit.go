package queues

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/answer"
	"github.com/etcdlock/etcdlock/internal/eviction"
	"github.com/etcdlock/etcdlock/internal/timeline"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// AuditEvent is what an audit tells of a name.
type AuditEvent string

// The events of an audit.
const (
	Held    AuditEvent = "granted"
	Ended   AuditEvent = "ended"
	Leads   AuditEvent = "leader"  // as Held or Changed, of an election
	Vacancy AuditEvent = "vacancy" // an election has no leader
	Missed  AuditEvent = "missed"  // etcd has compacted what came before, or was restored
)

// The ends of a hold, as far as etcd tells.
const (
	EndEvicted = "evicted"             // by a client that gave a reason
	EndDeleted = "key deleted"         // released, or deleted by another client: etcd keeps no difference
	EndClosed  = "released or revoked" // the lease is gone, and cannot have expired: its session has closed, or it was revoked
	EndLease   = "lease ended"         // the lease is gone, and may have expired
	EndUnknown = "not observed"        // of a replayed event: any of the above
)

// Audited is one event of an audit.
type Audited struct {
	Time     time.Time  `json:"time,omitzero"` // of the observation; zero if the event is replayed
	Revision int64      `json:"revision"`
	Name     string     `json:"name"`
	Event    AuditEvent `json:"event"`
	Entry    *Entry     `json:"entry,omitempty"` // nil for a vacancy

	End    string `json:"end,omitempty"`    // of Ended
	Reason string `json:"reason,omitempty"` // that the eviction has given
	By     string `json:"by,omitempty"`     // the process that has evicted
}

// Audit follows a name and tells grants, ends, leaders and vacancies, until ctx ends or tell returns an
// error. It begins with the present holders, or at revision from if that is not 0.
func Audit(ctx context.Context, client *clientv3.Client, name string, from int64, tell func(Audited) error) error {
	a := &audit{client: client, name: name, quit: ctx, tell: tell, next: from}
	a.kv, a.data = timeline.Of(client.KV)
	if err := a.begin(ctx); err != nil {
		return err
	}
	for {
		first, _ := wire.Range(name)
		same, stop := untilReplaced(ctx, a.kv, a.data, first)
		err := a.follow(same)
		replaced := same.Err() != nil
		stop()
		if replaced || errors.Is(err, rpctypes.ErrCompacted) {
			err = a.skip(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && answer.Final(err) && !errors.Is(err, rpctypes.ErrFutureRev):
			return err // such as a permission that was taken away, which the next try would lack too
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// audit follows one name.
type audit struct {
	client *clientv3.Client
	kv     clientv3.KV       // of client; shows its answers to data
	data   *timeline.Tracker // notices that etcd continues with other data
	name   string
	quit   context.Context // ends when nothing more is to be told
	tell   func(Audited) error

	next     int64 // the first revision that is not told
	live     int64 // revisions after this one are told when they occur
	present  map[string]*mvccpb.KeyValue
	known    []Entry
	election bool // true: a leader was told, so its absence is a vacancy

	lasts map[clientv3.LeaseID]time.Time // until when the leases of holders cannot expire
}

// The leases of holders are read so often, and of so many of them. A lease that is renewed every third of
// its TTL has two thirds of it left then, so a lease of three seconds or more cannot expire unnoticed.
const (
	leaseInterval = time.Second
	mostLeases    = 8
)

// readLeases notes until when the leases of the holders cannot expire: of new holders, or again of all.
func (a *audit) readLeases(ctx context.Context, again bool) {
	lasts := make(map[clientv3.LeaseID]time.Time)
	ctx, cancel := context.WithTimeout(ctx, leaseInterval)
	defer cancel()
	for i := range a.known {
		e := &a.known[i]
		if !e.Holds || e.Stray() || len(lasts) == mostLeases {
			continue
		}
		if until, ok := a.lasts[e.Lease]; ok && !again {
			lasts[e.Lease] = until
			continue
		}
		sent := time.Now()
		ttl, err := a.client.TimeToLive(ctx, e.Lease)
		lasts[e.Lease] = a.lasts[e.Lease]
		if err == nil && ttl.TTL > 0 {
			lasts[e.Lease] = sent.Add(time.Duration(ttl.TTL) * time.Second)
		}
	}
	a.lasts = lasts
}

// begin reads the queue as it was before the first revision to tell.
func (a *audit) begin(ctx context.Context) error {
	now, err := a.read(ctx, 0)
	if err != nil {
		return err
	}
	a.live = now.Header.Revision
	switch {
	case a.next == 0:
		a.next = a.live + 1
		return a.tellNow(ctx, now)
	case a.next > a.live+1:
		return fmt.Errorf("etcd is at revision %d, and has not reached %d", a.live, a.next)
	case a.next == 1: // nothing was there
		a.take(nil)
		return nil
	}
	before, err := a.read(ctx, a.next-1)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("the events of revision %d are gone: %w", a.next, err)
	}
	if err != nil {
		return err
	}
	a.take(before.Kvs)
	return nil
}

// read reads the queue at a revision, 0 for the present one.
func (a *audit) read(ctx context.Context, rev int64) (*clientv3.GetResponse, error) {
	from, end := wire.Range(a.name)
	return a.kv.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(rev))
}

// take makes entries known without telling them.
func (a *audit) take(kvs []*mvccpb.KeyValue) {
	a.present = make(map[string]*mvccpb.KeyValue)
	for _, kv := range kvs {
		a.present[string(kv.Key)] = kv
	}
	a.known = New(a.name, own(a.name, kvs)).Entries
	for i := range a.known {
		a.election = a.election || a.known[i].kind == Election
	}
}

// skip continues with the present entries, because the revisions in between are compacted.
func (a *audit) skip(ctx context.Context) error {
	now, err := a.read(ctx, 0)
	if err != nil {
		return err
	}
	if err := a.tell(Audited{Revision: now.Header.Revision, Name: a.name, Event: Missed}); err != nil {
		return err
	}
	a.next = now.Header.Revision + 1
	return a.tellNow(ctx, now)
}

// tellNow tells the differences to the entries that were read, as replayed events.
func (a *audit) tellNow(ctx context.Context, now *clientv3.GetResponse) error {
	a.present = make(map[string]*mvccpb.KeyValue)
	for _, kv := range now.Kvs {
		a.present[string(kv.Key)] = kv
	}
	a.live = now.Header.Revision
	return a.tellUntil(ctx, now.Header.Revision)
}

// follow tells each revision from the next one on. It returns when the watch has ended.
func (a *audit) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	from, end := wire.Range(a.name)
	watch := a.client.Watch(ctx, from, clientv3.WithRange(end), clientv3.WithRev(a.next))
	tick := time.NewTicker(leaseInterval)
	defer tick.Stop()
	for again := true; ; {
		a.readLeases(ctx, again)
		again = false
		select {
		case resp, ok := <-watch:
			if !ok {
				return nil
			}
			if err := a.tellAll(ctx, &resp); err != nil {
				return err
			}
		case <-tick.C:
			again = true
		}
	}
}

// tellAll tells the revisions of an answer of the watch.
func (a *audit) tellAll(ctx context.Context, resp *clientv3.WatchResponse) error {
	if err := resp.Err(); err != nil {
		return err
	}
	for i, ev := range resp.Events {
		if ev.Type == clientv3.EventTypeDelete {
			delete(a.present, string(ev.Kv.Key))
		} else {
			a.present[string(ev.Kv.Key)] = ev.Kv
		}
		if i+1 < len(resp.Events) && resp.Events[i+1].Kv.ModRevision == ev.Kv.ModRevision {
			continue
		}
		if err := a.tellUntil(ctx, ev.Kv.ModRevision); err != nil {
			return err
		}
		a.next = ev.Kv.ModRevision + 1
	}
	return nil
}

// tellUntil tells what differs at a revision from what is known.
func (a *audit) tellUntil(ctx context.Context, rev int64) error {
	var kvs []*mvccpb.KeyValue
	for _, kv := range a.present {
		kvs = append(kvs, kv)
	}
	before, now := a.known, New(a.name, own(a.name, kvs)).Entries
	a.known = now
	event := Audited{Revision: rev, Name: a.name}
	if rev > a.live {
		event.Time = time.Now()
	}
	leads := false
	for i := range before {
		if e := &before[i]; e.Holds && find(now, *e) == nil {
			if err := a.tellEnd(ctx, event, e); err != nil {
				return err
			}
		}
	}
	for i := range now {
		e := &now[i]
		leads = leads || e.Holds && e.kind == Election
		if old := find(before, *e); !e.Holds || old != nil && old.Holds && (e.kind != Election || old.Value == e.Value) {
			continue
		}
		held := event
		held.Event, held.Entry = Held, e
		if e.kind == Election {
			held.Event = Leads
		}
		if err := a.tell(held); err != nil {
			return err
		}
	}
	if was := a.election; was && !leads {
		a.election = false
		event.Event = Vacancy
		return a.tell(event)
	}
	a.election = leads
	return nil
}

// tellEnd tells the end of a hold, with the reason as far as etcd has it.
func (a *audit) tellEnd(ctx context.Context, event Audited, e *Entry) error {
	event.Event, event.Entry = Ended, e
	lasted := a.lasts[e.Lease].After(time.Now())
	asked, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n, err := eviction.Find(asked, a.client.KV, a.name, e.Key, e.CreateRevision, event.Revision)
	switch {
	case err == nil && n != nil:
		event.End, event.Reason, event.By = EndEvicted, n.Reason, n.By()
	case e.Stray():
		event.End = EndDeleted
	default:
		ttl, err := a.client.TimeToLive(asked, e.Lease)
		event.End = endOf(ttl, err, !event.Time.IsZero(), lasted)
	}
	if a.quit.Err() != nil {
		return a.quit.Err() // the reason may not have been read; the audit that continues this one tells the end
	}
	return a.tell(event)
}

// endOf is the end of a hold by what etcd tells of its lease. lasted is true if the lease could not have
// expired when the end was observed.
func endOf(ttl *clientv3.LeaseTimeToLiveResponse, err error, live, lasted bool) string {
	switch {
	case err == nil && ttl.TTL >= 0:
		return EndDeleted
	case err == nil && live && lasted:
		return EndClosed
	case err == nil && live:
		return EndLease
	default:
		return EndUnknown
	}
}
