package lockui

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/lockui/internal/mirror"
)

// sessionsPage is the list of sessions.
type sessionsPage struct {
	Rows  []*sessionRow `json:"sessions"`
	Pager pager         `json:"pages"`
	Query url.Values    `json:"-"`
}

// sessionRow is a session: all entries under one lease.
type sessionRow struct {
	Lease string  `json:"lease"`
	Who   *who    `json:"process"`
	Holds []stake `json:"holds"`
	Waits []stake `json:"waits"`

	id clientv3.LeaseID
}

// stake is an entry of a session.
type stake struct {
	Name    string      `json:"name"`
	Kind    queues.Kind `json:"kind"`
	Next    *who        `json:"next,omitempty"` // the next holder, if this session holds alone
	Waiting int         `json:"waiting"`
}

// Href is the address of the page of the name.
func (s stake) Href() string { return nameRow{Name: s.Name}.Href() }

// ID is the ID of the element of the row.
func (r *sessionRow) ID() string { return "s-" + r.Lease }

// Href is the address of the page of the session.
func (r *sessionRow) Href() string { return sessionHref(r.Lease) }

// First are the first of the names that it holds, and Rest the number of the others.
func (r *sessionRow) First() []stake { return r.Holds[:min(len(r.Holds), mostNames)] }

// Rest is the number of names that First leaves out.
func (r *sessionRow) Rest() int { return len(r.Holds) - len(r.First()) }

// mostNames is how many names a row of a session shows.
const mostNames = 4

func sessionHref(lease string) string { return "session?" + url.Values{"lease": {lease}}.Encode() }

// collect groups the entries of all names by their leases.
func collect(views []*mirror.View) map[clientv3.LeaseID]*sessionRow {
	all := make(map[clientv3.LeaseID]*sessionRow)
	for _, v := range views {
		holders, waiting := 0, 0
		var next *queues.Entry
		for i := range v.Entries {
			switch {
			case v.Entries[i].Holds:
				holders++
			case next == nil:
				next = &v.Entries[i]
				fallthrough
			default:
				waiting++
			}
		}
		for i := range v.Entries {
			e := &v.Entries[i]
			if e.Stray() {
				continue
			}
			s := all[e.Lease]
			if s == nil {
				s = &sessionRow{Lease: e.LeaseHex, Who: newWho(e), id: e.Lease}
				all[e.Lease] = s
			}
			s.learn(e)
			k := stake{Name: v.Name, Kind: v.Kind, Waiting: waiting}
			if e.Holds {
				if holders == 1 && next != nil {
					k.Next = newWho(next)
				}
				s.Holds = append(s.Holds, k)
			} else {
				s.Waits = append(s.Waits, k)
			}
		}
	}
	return all
}

// learn takes from an entry what the earlier ones did not say of the process.
func (r *sessionRow) learn(e *queues.Entry) {
	w := newWho(e)
	if r.Who.Unnamed && !w.Unnamed {
		r.Who.Name, r.Who.Unnamed = w.Name, false
	}
	if r.Who.Host == "" {
		r.Who.Host, r.Who.PID = w.Host, w.PID
	}
}

func (h *Handler) sessions(q url.Values) (*shown, error) {
	views, _ := h.mirror.Names()
	find := strings.ToLower(q.Get("q"))
	rows := []*sessionRow{}
	for _, s := range collect(views) {
		if find == "" || strings.Contains(strings.ToLower(s.Who.Name+"\n"+s.Who.Host+"\n"+s.Lease+"\n"+strconv.Itoa(s.Who.PID)), find) {
			rows = append(rows, s)
		}
	}
	slices.SortFunc(rows, func(a, b *sessionRow) int {
		return cmp.Or(cmp.Compare(len(b.Holds), len(a.Holds)), cmp.Compare(a.Who.Name, b.Who.Name), cmp.Compare(a.id, b.id))
	})
	p := &sessionsPage{Query: q}
	var err error
	if p.Pager, err = newPager("sessions", q, len(rows)); err != nil {
		return nil, err
	}
	p.Rows = rows[p.Pager.from:p.Pager.to]
	for _, r := range p.Rows {
		r.Who.Left = h.leftOf(r.id)
	}
	return &shown{"Sessions", p}, nil
}

// sessionPage is one session.
type sessionPage struct {
	Session *sessionRow   `json:"session"`
	Others  []*sessionRow `json:"others"` // of the same process
}

func (h *Handler) session(q url.Values) (*shown, error) {
	id, err := strconv.ParseInt(q.Get("lease"), 16, 64)
	if err != nil || id <= 0 {
		return nil, &failure{http.StatusBadRequest, "Give a lease in hexadecimal."}
	}
	views, _ := h.mirror.Names()
	all := collect(views)
	s := all[clientv3.LeaseID(id)]
	if s == nil {
		s = &sessionRow{Lease: strconv.FormatInt(id, 16), Who: &who{Name: "lease " + strconv.FormatInt(id, 16), Unnamed: true}, id: clientv3.LeaseID(id)}
	}
	s.Who.Left = h.leftOf(s.id)
	p := &sessionPage{Session: s, Others: []*sessionRow{}}
	for _, o := range all {
		if o.id != s.id && o.Who.Host != "" && o.Who.Host == s.Who.Host && o.Who.PID == s.Who.PID {
			p.Others = append(p.Others, o)
		}
	}
	slices.SortFunc(p.Others, func(a, b *sessionRow) int { return cmp.Compare(a.id, b.id) })
	return &shown{"Session of " + show(s.Who.Name), p}, nil
}
