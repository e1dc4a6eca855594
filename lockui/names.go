package lockui

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
	"github.com/etcdlock/etcdlock/lockui/internal/mirror"
)

const perPage = 100

// namesPage is the list of names.
type namesPage struct {
	Rows  []nameRow  `json:"names"`
	Total int        `json:"total"` // that match
	All   int        `json:"all"`
	Pager pager      `json:"pages"`
	Query url.Values `json:"-"`
	Sorts []sortLink `json:"-"`
}

// nameRow is one name of the list.
type nameRow struct {
	Name    string      `json:"name"`
	Kind    queues.Kind `json:"kind"`
	Detail  string      `json:"detail,omitempty"` // of the kind
	Holder  *who        `json:"holder,omitempty"`
	Holders int         `json:"holders"`
	Waiting int         `json:"waiting"`
	Asks    int         `json:"asks,omitempty"`
	Stray   bool        `json:"stray,omitempty"` // true: a key without a lease holds or waits

	row string // of the element
}

// mostHref is the length of the longest name that has a page, because servers bound addresses.
const mostHref = 4 << 10

// Href is the address of the page of the name, or empty.
func (r nameRow) Href() string {
	if len(r.Name) > mostHref {
		return ""
	}
	return "name?" + url.Values{"name": {r.Name}}.Encode()
}

// ID is the ID of the element of the row.
func (r nameRow) ID() string { return "n-" + r.row }

// Others tells how many more hold.
func (r nameRow) Others() string { return plural(r.Holders-1, "other", "others") }

// who is the process of an entry.
type who struct {
	Name    string    `json:"name"`
	Lease   string    `json:"lease,omitempty"`
	Host    string    `json:"host,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Queued  time.Time `json:"queued,omitzero"`
	Held    time.Time `json:"held,omitzero"` // if it is known
	Left    *left     `json:"lease_left,omitempty"`
	Unnamed bool      `json:"-"` // true: Name is made of the lease or the key
}

// Since is the time of the grant, or else when the entry entered the queue.
func (w *who) Since() time.Time { return cmp.Or(w.Held, w.Queued) }

// left is what is left of a lease.
type left struct {
	Seconds float64   `json:"seconds"` // at that time
	Of      float64   `json:"of"`
	At      time.Time `json:"at"`
}

// Until is when the lease ends unless it is renewed.
func (l *left) Until() time.Time {
	return l.At.Add(time.Duration(l.Seconds * float64(time.Second)))
}

// Gone reports whether etcd no longer has the lease.
func (l *left) Gone() bool { return l.Seconds < 0 }

// Low reports whether the process has not renewed its lease in time.
func (l *left) Low() bool { return l.Seconds < l.Of/2 }

// leftOf is what is left of a lease, or nil if it is not known yet.
func (h *Handler) leftOf(id clientv3.LeaseID) *left {
	if id == clientv3.NoLease {
		return nil
	}
	l, ok := h.leases.Left(id)
	if !ok {
		return nil
	}
	return &left{l.TTL.Seconds(), l.Granted.Seconds(), l.At}
}

// newWho describes the process of an entry.
func newWho(e *queues.Entry) *who {
	w := &who{Name: e.Owner, Lease: e.LeaseHex, Host: e.Host, PID: e.PID, Queued: e.Since, Held: e.Granted}
	switch {
	case e.Stray():
		w.Name, w.Unnamed = "no lease", true
	case w.Name == "" && e.Value != "":
		w.Name = e.Value
	case w.Name == "":
		w.Name, w.Unnamed = "lease "+e.LeaseHex, true
	}
	return w
}

// newRow makes the row of a name, without the leases.
func newRow(v *mirror.View) nameRow {
	r := nameRow{Name: v.Name, Kind: v.Kind, Asks: len(v.Requests), row: elementID(v.Name)}
	permits, shared := 0, false
	var first *queues.Entry
	for i := range v.Entries {
		e := &v.Entries[i]
		r.Stray = r.Stray || e.Stray()
		if !e.Holds {
			r.Waiting++
			continue
		}
		r.Holders++
		permits, shared = permits+e.Permits, shared || e.Shared
		if first == nil {
			first = e
			r.Holder = newWho(e)
			if r.Holder.Held.IsZero() {
				r.Holder.Held = seenGrant(v, e)
			}
		}
	}
	switch {
	case v.Kind == queues.Semaphore && first != nil:
		r.Detail = strconv.Itoa(permits) + " of " + strconv.Itoa(cmp.Or(v.Limit, first.Limit))
	case shared:
		r.Detail = "shared"
	}
	return r
}

// seenGrant is when this page has seen the grant of an entry, or the zero time.
func seenGrant(v *mirror.View, e *queues.Entry) time.Time {
	for i := len(v.History) - 1; i >= 0; i-- {
		if c := &v.History[i]; c.What == queues.Granted && c.Entry.Key == e.Key && c.Entry.CreateRevision == e.CreateRevision {
			return c.Time
		}
	}
	return time.Time{}
}

// elementID is a text for the ID of an element of a name or a key.
func elementID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// orders are the orders of names.
var orders = []struct {
	name, title string
	before      func(a, b *nameRow) int
}{
	{"name", "Name", func(a, b *nameRow) int { return 0 }},
	{"kind", "Kind", func(a, b *nameRow) int { return cmp.Compare(a.Kind, b.Kind) }},
	{"holder", "Holder", func(a, b *nameRow) int { return cmp.Compare(a.holder(), b.holder()) }},
	{"host", "Host", func(a, b *nameRow) int { return cmp.Compare(a.host(), b.host()) }},
	{"since", "Since", func(a, b *nameRow) int { return a.since().Compare(b.since()) }},
	{"waiting", "Waiting", func(a, b *nameRow) int { return cmp.Compare(b.Waiting, a.Waiting) }}, // the longest queue first
}

func (r *nameRow) holder() string {
	if r.Holder == nil {
		return ""
	}
	return r.Holder.Name
}

func (r *nameRow) host() string {
	if r.Holder == nil {
		return ""
	}
	return r.Holder.Host
}

func (r *nameRow) since() time.Time {
	if r.Holder == nil || r.Holder.Since().IsZero() {
		return time.Unix(1<<40, 0) // unknown times come last
	}
	return r.Holder.Since()
}

// sortLink is the heading of a column.
type sortLink struct {
	Title, Href, Aria string
}

func (h *Handler) names(q url.Values) (*shown, error) {
	views, _ := h.mirror.Names()
	find, kind, waits := strings.ToLower(q.Get("q")), queues.Kind(q.Get("kind")), q.Get("waiting") != ""
	p := &namesPage{All: len(views), Query: q}
	rows := make([]nameRow, 0, len(views))
	for _, v := range views {
		r := newRow(v)
		matches := find == "" || strings.Contains(strings.ToLower(v.Name), find) || strings.Contains(strings.ToLower(text.Safe(v.Name)), find) ||
			strings.Contains(strings.ToLower(r.holder()+"\n"+r.host()), find)
		if matches && (kind == "" || kind == v.Kind) && (!waits || r.Waiting > 0) {
			rows = append(rows, r)
		}
	}
	if err := sortRows(rows, cmp.Or(q.Get("sort"), "name")); err != nil {
		return nil, err
	}
	p.Sorts = sortLinks(q)
	p.Total = len(rows)
	var err error
	if p.Pager, err = newPager("names", q, len(rows)); err != nil {
		return nil, err
	}
	p.Rows = rows[p.Pager.from:p.Pager.to]
	for i := range p.Rows {
		if w := p.Rows[i].Holder; w != nil {
			id, _ := strconv.ParseInt(w.Lease, 16, 64)
			w.Left = h.leftOf(clientv3.LeaseID(id))
		}
	}
	return &shown{"Names", p}, nil
}

// sortRows sorts by the name of an order, in reverse after a minus. Rows come in the order of names.
func sortRows(rows []nameRow, by string) error {
	name, reverse := strings.CutPrefix(by, "-")
	for _, o := range orders {
		if o.name == name {
			slices.SortStableFunc(rows, func(a, b nameRow) int {
				c := o.before(&a, &b)
				if reverse {
					c = -c
				}
				return c
			})
			if reverse && name == "name" {
				slices.Reverse(rows)
			}
			return nil
		}
	}
	return &failure{http.StatusBadRequest, "Names cannot be sorted by that."}
}

// sortLinks are the headings of the columns.
func sortLinks(q url.Values) (all []sortLink) {
	now := cmp.Or(q.Get("sort"), "name")
	for _, o := range orders {
		to := with(q, "sort", o.name, "page", "")
		l := sortLink{Title: o.title, Aria: "none"}
		switch now {
		case o.name:
			l.Aria, to = "ascending", with(to, "sort", "-"+o.name)
		case "-" + o.name:
			l.Aria = "descending"
		}
		l.Href = "names?" + to.Encode()
		all = append(all, l)
	}
	return all
}

// with is a copy of a query with other values. An empty value is left out.
func with(q url.Values, pairs ...string) url.Values {
	to := url.Values{}
	for k, v := range q {
		to[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		if to.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			to.Del(pairs[i])
		}
	}
	return to
}

// pager is the choice of a page of a long list.
type pager struct {
	Page  int `json:"page"` // from 1
	Pages int `json:"pages"`
	From  int `json:"-"` // the number of the first one, from 1
	To    int `json:"-"`
	Total int `json:"-"`

	Previous, Next string `json:"-"` // addresses

	from, to int
}

func newPager(route string, q url.Values, total int) (pager, error) {
	p := pager{Page: 1, Pages: max(1, (total+perPage-1)/perPage), Total: total}
	if s := q.Get("page"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return p, &failure{http.StatusBadRequest, "The number of the page is no number from 1."}
		}
		p.Page = min(n, p.Pages)
	}
	p.from, p.to = (p.Page-1)*perPage, min(p.Page*perPage, total)
	p.From, p.To = p.from+1, p.to
	if p.Page > 1 {
		p.Previous = route + "?" + with(q, "page", strconv.Itoa(p.Page-1)).Encode()
	}
	if p.Page < p.Pages {
		p.Next = route + "?" + with(q, "page", strconv.Itoa(p.Page+1)).Encode()
	}
	return p, nil
}
