package lockui

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"show": show, "quoted": quoted, "time": stamp, "ms": time.Time.UnixMilli, "plural": plural, "safe": text.Safe,
	"brief": func(s string, most int) string { return cut(text.Safe(s), most) },
}).ParseFS(templateFiles, "templates/*.html"))

// mostShown is how many bytes of a text of another client are shown.
const mostShown = 200

// show is text of another client as a page shows it. Text that is not printable is quoted, and long
// text is cut.
func show(v any) string {
	s := fmt.Sprint(v)
	if len(s) <= mostShown {
		return text.Safe(s)
	}
	return text.Safe(strings.ToValidUTF8(s[:mostShown], "")) + fmt.Sprintf("… (%d bytes)", len(s))
}

// cut shortens a text to a number of characters.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// quoted reports whether show quotes or cuts a text.
func quoted(v any) bool { return show(v) != fmt.Sprint(v) }

// stamp is a time for readers without a script. The script replaces it by an age.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// plural is a number with a noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n) + " " + many
}

// newBoot is a text that no other handler has.
func newBoot() string { return strings.ToLower(rand.Text()[:8]) }

// failure is an error with a status for the user.
type failure struct {
	status int
	says   string
}

func (f *failure) Error() string { return f.says }

// rendered is the live part of a page.
type rendered struct {
	html  string
	id    string // of its content: the boot, the revision and a hash
	title string
	stamp stamps
	at    time.Time
	err   error
}

// stamps are the versions of all that a page is made of.
type stamps struct{ mirror, leases, doctor uint64 }

func (h *Handler) stamps() stamps {
	m, _ := h.mirror.Version()
	l, _ := h.leases.Version()
	return stamps{m, l, h.doctor.version.Load()}
}

// cache has the last rendering of each address, so that any number of viewers costs one.
type cache struct {
	mu   sync.Mutex
	byID map[string]*cached
}

// cached is an address. Its mutex is held while the page is rendered, without any request to etcd.
type cached struct {
	mu   sync.Mutex
	last *rendered
	used time.Time // guarded by the mutex of the cache
}

const (
	mostCached = 2000            // addresses; a user can ask for any number
	cachedFor  = 2 * time.Minute // since an address was last used
)

func (c *cache) get(key string) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil {
		c.byID = make(map[string]*cached)
	}
	one := c.byID[key]
	if one == nil {
		if len(c.byID) >= mostCached {
			for key, old := range c.byID {
				if time.Since(old.used) > cachedFor || len(c.byID) >= 2*mostCached {
					delete(c.byID, key)
				}
			}
		}
		one = &cached{}
		c.byID[key] = one
	}
	one.used = time.Now()
	return one
}

// render returns the live part of a page, which may be up to maxAge old.
func (h *Handler) render(p *page, q url.Values, maxAge time.Duration) *rendered {
	c := h.cache.get(p.name + "?" + q.Encode())
	c.mu.Lock()
	defer c.mu.Unlock()
	now := h.stamps()
	if r := c.last; r != nil && (r.stamp == now || time.Since(r.at) < maxAge) {
		return r
	}
	r := &rendered{stamp: now, at: time.Now()}
	var s *shown
	if s, r.err = p.build(h, q); r.err == nil {
		var out bytes.Buffer
		state := h.mirror.State()
		r.title = s.Title
		r.err = templates.ExecuteTemplate(&out, "live", map[string]any{"Page": p.name, "Data": s.Data, "State": state, "Allowed": h.allowed()})
		r.html = out.String()
		sum := sha256.Sum256(out.Bytes())
		r.id = fmt.Sprintf("%s-%d-%s", h.boot, state.Revision, hex.EncodeToString(sum[:6]))
	}
	c.last = r
	return r
}

// servePage answers with a page, or with a stream of its live part.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request, p *page) {
	q := r.URL.Query()
	since := q.Get("since")
	q.Del("since")
	if r.Header.Get("Accept") == "text/event-stream" {
		h.stream(w, r, p, q, since)
		return
	}
	live := h.render(p, q, 0)
	if live.err != nil {
		h.failed(w, r, live.err)
		return
	}
	h.write(w, r, http.StatusOK, "page", map[string]any{
		"Page": p.name, "Title": live.title, "Query": q, "Live": template.HTML(live.html), "ID": live.id, "Now": time.Now(), //nolint:gosec // by our templates
	})
}

// write answers with a template inside the frame of all pages.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, status int, name string, data map[string]any) {
	data["User"], data["Auth"], data["Allowed"], data["Prefix"] = userOf(r), h.cfg.auth, h.allowed(), h.cfg.prefix
	page, _ := data["Page"].(string)
	data["Links"], data["Template"] = links(page), name
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, "frame", data); err != nil {
		h.cfg.log.Error("a page cannot be made", "path", r.URL.Path, "error", err)
		http.Error(w, "The page cannot be made; see the log.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

// failed answers with the status of an error.
func (h *Handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	if f := (*failure)(nil); errors.As(err, &f) {
		h.fail(w, r, f.status, f.says)
		return
	}
	h.cfg.log.Error("request failed", "path", r.URL.Path, "error", err)
	h.fail(w, r, http.StatusBadGateway, "etcd has not done it: "+err.Error())
}

// fail answers with a message.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, status int, says string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		writeJSON(w, status, map[string]string{"error": says})
		return
	}
	h.write(w, r, status, "failure", map[string]any{"Title": http.StatusText(status), "Status": status, "Says": says})
}

// answer is what the API answers.
type answer struct {
	Revision int64  `json:"revision"`
	Silent   string `json:"silent_since,omitempty"` // while etcd does not answer
	Data     any    `json:"data"`
}

func (h *Handler) serveJSON(w http.ResponseWriter, r *http.Request, p *page) {
	s, err := p.build(h, r.URL.Query())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	state := h.mirror.State()
	a := answer{Revision: state.Revision, Data: s.Data}
	if !state.Silent.IsZero() {
		a.Silent = state.Silent.UTC().Format(time.RFC3339)
	}
	writeJSON(w, http.StatusOK, a)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(text.Legible(v))
}
