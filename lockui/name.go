package lockui

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
	"github.com/etcdlock/etcdlock/lockui/internal/mirror"
)

// namePage is one name.
type namePage struct {
	Row      nameRow          `json:"-"`
	Name     string           `json:"name"`
	Kind     queues.Kind      `json:"kind"`
	Used     bool             `json:"used"`
	Changed  int64            `json:"changed_revision"`
	Limit    int              `json:"limit,omitempty"` // that was set
	Entries  []entryRow       `json:"entries"`
	Asks     []queues.Request `json:"asks,omitempty"`
	Timeline []queues.Change  `json:"timeline"` // the latest first
	Pager    pager            `json:"pages"`
	Wants    bool             `json:"-"` // true: an entry wants more than an exclusive hold
}

// entryRow is an entry of a queue.
type entryRow struct {
	Number int  `json:"number"`
	Who    *who `json:"process"`
	queues.Entry
	Size int `json:"value_size,omitempty"` // of a value that is cut
}

// ID is the ID of the element of the row.
func (r entryRow) ID() string { return "e-" + elementID(r.Key) }

// Evict is the address of the page that evicts the entry.
func (r entryRow) Evict(name string) string { return actionHref(Evict, name, &r.Entry) }

// Transfer is the address of the page that transfers the leadership to the candidate, or empty.
func (r entryRow) Transfer(name string, kind queues.Kind) string {
	if kind != queues.Election || r.Holds || r.Value == "" {
		return ""
	}
	return actionHref(Transfer, name, &r.Entry)
}

// Session is the address of the page of the session.
func (r entryRow) Session() string { return sessionHref(r.LeaseHex) }

// ShortKey is the part of the key behind the name.
func (r entryRow) ShortKey() string { return wire.Tail(r.Key) }

// nameIn returns the name in a query.
func nameIn(q url.Values, prefix string) (string, error) {
	name := q.Get("name")
	if name == "" { // from a form, which cannot have all bytes
		name, _ = url.QueryUnescape(q.Get("escaped"))
	}
	switch {
	case wire.CheckForeignName(name) != nil:
		return "", &failure{http.StatusBadRequest, "Give a name."}
	case !strings.HasPrefix(name, prefix):
		return "", &failure{http.StatusNotFound, "This page shows only names that begin with " + wire.Quote(prefix) + "."}
	}
	return name, nil
}

func (h *Handler) name(q url.Values) (*shown, error) {
	name, err := nameIn(q, h.cfg.prefix)
	if err != nil {
		return nil, err
	}
	v, _ := h.mirror.Name(name)
	p := &namePage{Row: newRow(v), Name: name, Kind: v.Kind, Used: v.Used(), Changed: v.Revision, Limit: v.Limit, Asks: v.Requests}
	if p.Pager, err = newPager("name", q, len(v.Entries)); err != nil {
		return nil, err
	}
	for i := p.Pager.from; i < p.Pager.to; i++ {
		r := h.newEntryRow(v, i)
		p.Wants = p.Wants || r.Shared || r.Permits > 0 || r.Priority != 0
		p.Entries = append(p.Entries, r)
	}
	p.Timeline = slices.Clone(v.History)
	slices.Reverse(p.Timeline)
	return &shown{show(name), p}, nil
}

func (h *Handler) newEntryRow(v *mirror.View, i int) entryRow {
	e := v.Entries[i]
	r := entryRow{Number: i + 1, Who: newWho(&e), Entry: e, Size: v.Sizes[e.Key]}
	if e.Holds && r.Who.Held.IsZero() {
		r.Who.Held = seenGrant(v, &e)
	}
	r.Who.Left = h.leftOf(e.Lease)
	return r
}
