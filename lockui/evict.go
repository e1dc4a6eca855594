package lockui

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/eviction"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// planEvict tells what the eviction of an entry means. Without an entry in the query it is the only
// holder.
func (h *Handler) planEvict(ctx context.Context, query url.Values, name string) (*plan, error) {
	q, rev, err := h.read(ctx, name)
	if err != nil {
		return nil, err
	}
	e := chosen(q, query)
	if e == nil {
		return nil, &failure{http.StatusNotFound, "This entry is no longer in the queue of " + wire.Quote(name) + "."}
	}
	p := &plan{Title: "Evict " + person(e), Danger: true, Facts: []fact{
		{"key", e.Key}, {"create", strconv.FormatInt(e.CreateRevision, 10)}, {"mod", strconv.FormatInt(e.ModRevision, 10)},
		{"shown", strconv.FormatInt(rev, 10)},
	}}
	verb := map[bool]string{true: "holds", false: "waits for"}[e.Holds]
	p.Consequences = []string{fmt.Sprintf("%s %s %s. Its key %s of revision %d is deleted.", person(e), verb, wire.Quote(name), wire.Quote(e.Key), e.CreateRevision)}
	waiters := q.Waiters()
	switch {
	case !e.Holds && e.Stray():
		p.Consequences = append(p.Consequences, "The entries behind it no longer wait for it.")
	case !e.Holds:
		p.Consequences = append(p.Consequences, "The waiter loses its place in the queue.")
	case len(waiters) == 0:
		p.Consequences = append(p.Consequences, "No process waits, so the lock will be free.")
		p.Facts = append(p.Facts, fact{"alone", "1"})
	default:
		p.Consequences = append(p.Consequences, "The next waiter, "+person(&waiters[0])+", can then hold at once.")
		p.Facts = append(p.Facts, fact{"next", waiters[0].Key}, fact{"nextcreate", strconv.FormatInt(waiters[0].CreateRevision, 10)})
	}
	if e.Holds && !e.Stray() {
		p.Consequences = append(p.Consequences, "The evicted process is told, but its work may still run. Only a fencing token protects the resource from that work.")
	}
	return p, nil
}

// chosen is the entry that a query names, or the only holder.
func chosen(q *queues.Queue, query url.Values) *queues.Entry {
	key, create := query.Get("key"), query.Get("create")
	if holders := q.Holders(); key == "" && len(holders) == 1 {
		return &holders[0]
	}
	for i := range q.Entries {
		if e := &q.Entries[i]; e.Key == key && (create == "" || create == strconv.FormatInt(e.CreateRevision, 10)) {
			return e
		}
	}
	return nil
}

// doEvict deletes the entry if all that was shown is still so.
func (h *Handler) doEvict(ctx context.Context, o *order) (told string, err error) {
	create, err := o.number("create")
	if err != nil {
		return "", err
	}
	mod, err := o.number("mod")
	if err != nil {
		return "", err
	}
	key := o.facts.Get("key")
	if of, ok := wire.NameOf(key); !ok || of != o.name {
		return "", &failure{http.StatusBadRequest, "The key is not in the queue of the name."}
	}
	guards := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", mod)}
	if o.facts.Get("alone") != "" { // no entry was added
		from, end := wire.Range(o.name)
		guards = append(guards, clientv3.Compare(clientv3.CreateRevision(from), "<", o.shown+1).WithRange(end))
	}
	if next := o.facts.Get("next"); next != "" {
		nextCreate, err := o.number("nextcreate")
		if err != nil {
			return "", err
		}
		guards = append(guards, clientv3.Compare(clientv3.CreateRevision(next), "=", nextCreate))
	}
	resp, err := eviction.Evict(ctx, h.client, eviction.Order{Name: o.name, Guards: guards, Notice: eviction.Notice{
		Reason: o.reason, Owner: by(o.user), Host: host(), PID: os.Getpid(), Since: now(), Key: key, CreateRevision: create,
	}})
	switch {
	case err != nil:
		return "", err
	case !resp.Succeeded:
		return "", h.changedSince(ctx, o.name, o.shown)
	default:
		return "The entry is evicted.", nil
	}
}
