package lockui

import (
	"context"
	"embed"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/inspect/exporter"
	"github.com/etcdlock/etcdlock/lockui/internal/mirror"
)

//go:embed static
var static embed.FS

// patience bounds the requests to etcd for one answer.
const patience = 10 * time.Second

// Handler serves the page. Create it by [New], and close it at the end.
type Handler struct {
	cfg    *config
	client *clientv3.Client
	mirror *mirror.Mirror
	leases *mirror.Leases
	doctor *checkup
	origin *http.CrossOriginProtection
	serve  http.Handler
	pages  map[string]*page
	cache  cache
	boot   string // tells the answers of this handler from those of an earlier one

	life   context.Context // ends with Close
	end    context.CancelFunc
	room   chan struct{} // has an element for each stream
	asking chan struct{} // has an element for each request to release
	mu     sync.Mutex    // orders begin and Close
	tasks  sync.WaitGroup
}

// page is a view of etcd that is kept current. Its template has two parts: name.head, which a stream
// does not replace, and name.live.
type page struct {
	name  string
	title string // and of the link to the page; empty: no link
	build func(h *Handler, q url.Values) (*shown, error)
}

// shown is what a page shows at one moment.
type shown struct {
	Title string
	Data  any // for the template, and in JSON for the API
}

// pages are in the order of their links.
var pages = []*page{
	{"names", "Names", (*Handler).names},
	{"name", "", (*Handler).name},
	{"sessions", "Sessions", (*Handler).sessions},
	{"session", "", (*Handler).session},
	{"deadlocks", "Deadlocks", (*Handler).deadlocks},
	{"doctor", "Doctor", (*Handler).checks},
}

// New returns a handler, which follows etcd by the client until Close. The client remains the caller's.
func New(client *clientv3.Client, opts ...Option) (*Handler, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	h := &Handler{
		cfg: cfg, client: client, origin: http.NewCrossOriginProtection(), pages: make(map[string]*page),
		mirror: mirror.New(mirror.Config{Client: client, Prefix: cfg.prefix, Log: cfg.log}),
		leases: mirror.NewLeases(client.Lease),
		boot:   newBoot(), room: make(chan struct{}, mostStreams), asking: make(chan struct{}, mostAsks),
	}
	h.life, h.end = context.WithCancel(context.Background())
	h.doctor = newCheckup(h)
	mux := http.NewServeMux()
	for _, p := range pages {
		h.pages[p.name] = p
		mux.HandleFunc("GET /"+p.name, func(w http.ResponseWriter, r *http.Request) { h.servePage(w, r, p) })
		mux.HandleFunc("GET /api/"+p.name, func(w http.ResponseWriter, r *http.Request) { h.serveJSON(w, r, p) })
	}
	for name, a := range acts {
		mux.HandleFunc("GET /"+string(name), func(w http.ResponseWriter, r *http.Request) { h.confirm(w, r, name, a) })
		mux.HandleFunc("POST /"+string(name), func(w http.ResponseWriter, r *http.Request) { h.act(w, r, name, a) })
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "names") // relative, because the handler may be mounted anywhere
		w.WriteHeader(http.StatusSeeOther)
	})
	mux.Handle("GET /metrics", &exporter.Exporter{
		Client: client, Patience: patience, Prefixes: []string{cfg.prefix}, MaxNames: 200, Deadlocks: h.describeDeadlocks,
	})
	mux.Handle("GET /static/", http.FileServerFS(static))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, http.StatusNotFound, "There is no such page.")
	})
	h.serve = h.guard(mux)
	return h, nil
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.serve.ServeHTTP(w, r) }

// Close ends the watch of etcd, all streams and all requests to release that are under way. It blocks
// until they have ended.
func (h *Handler) Close() {
	h.mu.Lock()
	h.end()
	h.mu.Unlock()
	h.tasks.Wait()
	h.leases.Close()
	h.mirror.Close()
}

// begin adds a task that Close waits for, which has to call tasks.Done. It returns false after Close.
func (h *Handler) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life.Err() != nil {
		return false
	}
	h.tasks.Add(1)
	return true
}

// links are the pages with a link, of which one is the current.
func links(current string) (all []link) {
	belongs := map[string]string{"name": "names", "session": "sessions"}
	for _, p := range pages {
		if p.title != "" {
			all = append(all, link{Href: p.name, Text: p.title, Current: p.name == current || p.name == belongs[current]})
		}
	}
	return all
}

// link is a link of the navigation.
type link struct {
	Href, Text string
	Current    bool
}

// allowed are the permitted actions in a fixed order.
func (h *Handler) allowed() []Action {
	return slices.DeleteFunc(slices.Clone(actions), func(a Action) bool { return !h.cfg.allows(a) })
}
