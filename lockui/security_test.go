package lockui_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/lockui"
)

var update = flag.Bool("update", false, "write what is seen as what is expected")

const (
	securityPage  = "../docs/ui.md"
	securityBegin = "<!-- the table of TestTheSecurityTable begins -->\n"
	securityEnd   = "<!-- the table of TestTheSecurityTable ends -->\n"
)

// mode is a way in which a request comes to a page.
type mode struct {
	title string
	opts  []lockui.Option
	from  func(*http.Request)
}

const token = "a-token-that-is-long-enough"

func header(name, value string) func(*http.Request) {
	return func(q *http.Request) { q.Header.Set(name, value) }
}

func modes(t *testing.T) []mode {
	byToken, err := lockui.TokenAuth(token)
	require.NoError(t, err)
	byProxy, err := lockui.ProxyAuth("X-Forwarded-User", netip.MustParsePrefix("10.0.0.7/32"))
	require.NoError(t, err)
	auth := func(a *lockui.Auth) []lockui.Option {
		return append([]lockui.Option{lockui.WithAuth(a), lockui.WithHosts("locks.example.com")}, all...)
	}
	outside := func(changes ...func(*http.Request)) func(*http.Request) {
		return func(q *http.Request) {
			q.Host, q.RemoteAddr = "locks.example.com", "10.0.0.7:40000"
			for _, change := range changes {
				change(q)
			}
		}
	}
	stranger := func(q *http.Request) { q.RemoteAddr = "10.0.0.8:40000" }
	none := func(*http.Request) {}
	return []mode{
		{"read-only", nil, none},
		{"`--allow`", all, none},
		{"from another site", all, header("Sec-Fetch-Site", "cross-site")},
		{"another Host", all, func(q *http.Request) { q.Host = "evil.example.com" }},
		{"another machine", all, func(q *http.Request) { q.RemoteAddr = "10.0.0.7:40000" }},
		{"by a proxy", all, header("X-Forwarded-For", "10.0.0.7")},
		{"token: none", auth(byToken), outside()},
		{"token: wrong", auth(byToken), outside(header("Authorization", "Bearer "+token+"x"))},
		{"token", auth(byToken), outside(header("Authorization", "Bearer "+token))},
		{"mtls: none", auth(lockui.CertificateAuth()), outside()},
		{"mtls", auth(lockui.CertificateAuth()), outside(func(q *http.Request) { q.TLS = verified("ada") })},
		{"proxy: no user", auth(byProxy), outside()},
		{"proxy: untrusted", auth(byProxy), outside(header("X-Forwarded-User", "ada"), stranger)},
		{"proxy", auth(byProxy), outside(header("X-Forwarded-User", "ada"))},
	}
}

// routes are all routes by their groups. The routes of a group have the same answers.
var routes = []struct {
	group   string
	methods []string
	paths   []string
}{
	{"GET pages", []string{"GET", "HEAD"}, []string{
		"/names", "/name?name=jobs/nightly", "/sessions", "/session?lease=7f", "/deadlocks", "/doctor", "/metrics", "/static/ui.js", "/static/ui.css",
		"/api/names", "/api/name?name=jobs/nightly", "/api/sessions", "/api/session?lease=7f", "/api/deadlocks", "/api/doctor",
	}},
	{"GET `/`", []string{"GET"}, []string{"/"}},
	{"GET others", []string{"GET"}, []string{"/nothing", "/api/nothing", "/static/nothing", "/names/nothing", "/api/evict"}},
	{"GET actions", []string{"GET"}, []string{"/ask?name=jobs/nightly", "/evict?name=jobs/nightly", "/limit?name=pool", "/transfer?name=scheduler"}},
	{"POST actions", []string{"POST"}, []string{"/ask?name=jobs/nightly", "/evict?name=jobs/nightly", "/limit?name=pool", "/transfer?name=scheduler"}},
	{"other methods", []string{"POST", "PUT", "DELETE", "PATCH"}, []string{"/names", "/doctor", "/api/names", "/metrics", "/static/ui.js"}},
	{"other methods", []string{"PUT", "DELETE", "PATCH"}, []string{"/ask?name=jobs/nightly", "/evict?name=jobs/nightly", "/limit?name=pool", "/transfer?name=scheduler"}},
}

// The table is what the handler answers, for each mode, route and method.
func TestTheSecurityTable(t *testing.T) {
	var table strings.Builder
	table.WriteString("| mode |")
	columns := 0
	for i, group := range routes {
		if i == 0 || routes[i-1].group != group.group {
			table.WriteString(" " + group.group + " |")
			columns++
		}
	}
	table.WriteString("\n" + strings.Repeat("|---", columns+1) + "|\n")
	for _, m := range modes(t) {
		run(t, func(r *rig) {
			r.hold("alpha", "jobs/nightly")
			defer r.permit("pool")()
			r.candidate("alpha", "scheduler", etcdlock.WithResignOnRequest())
			r.candidate("beta", "scheduler", etcdlock.WithResignOnRequest())
			table.WriteString("| " + m.title + " |")
			for i, group := range routes {
				code := r.answers(group.methods, group.paths, m.from)
				if i == 0 || routes[i-1].group != group.group {
					fmt.Fprintf(&table, " %d |", code)
					continue
				}
				require.True(t, strings.HasSuffix(table.String(), fmt.Sprintf(" %d |", code)), "%s: %v %d", m.title, group, code)
			}
			table.WriteString("\n")
		}, m.opts...)
	}
	page, err := os.ReadFile(securityPage)
	if err != nil {
		t.Skipf("%v: a module archive holds this module alone; run this in a checkout", err)
	}
	before, rest, found := strings.Cut(string(page), securityBegin)
	require.True(t, found, "%s has no table", securityPage)
	want, after, found := strings.Cut(rest, securityEnd)
	require.True(t, found)
	if *update {
		require.NoError(t, os.WriteFile(securityPage, []byte(before+securityBegin+table.String()+securityEnd+after), 0o600))
		return
	}
	require.Equal(t, want, table.String(), "%s is not what the handler does; run this test with -update", securityPage)
}

// answers is the status that all routes of a group have.
func (r *rig) answers(methods, paths []string, from func(*http.Request)) (status int) {
	for _, method := range methods {
		for _, path := range paths {
			if method == http.MethodPost {
				path = r.filled(path, from)
			}
			code := r.do(request(method, path, withReason("because"), from)).Code
			if code == http.StatusOK && method == http.MethodPost {
				r.settle()
				r.renew(path)
			}
			require.True(r, status == 0 || status == code, "%s %s: %d, and %d for the others", method, path, code, status)
			status = code
		}
	}
	return status
}

// filled is the address of the form of a page of confirmation, or the path if there is no such page.
func (r *rig) filled(path string, from func(*http.Request)) string {
	if strings.HasPrefix(path, "/limit") {
		path += "&to=7"
	}
	w := r.do(request(http.MethodGet, path, from))
	_, form, ok := strings.Cut(w.Body.String(), `<form class="confirm" action="`)
	if !ok {
		return path
	}
	action, _, _ := strings.Cut(form, `"`)
	return "/" + strings.ReplaceAll(action, "&amp;", "&")
}

// renew makes again what an action has removed.
func (r *rig) renew(path string) {
	if strings.HasPrefix(path, "/evict") {
		r.hold("beta", "jobs/nightly")
	}
}

// No answer lets a browser run or load anything of another site, or keep it.
func TestEachAnswerHasTheHeadersOfSafety(t *testing.T) {
	for _, m := range modes(t) {
		run(t, func(r *rig) {
			for _, path := range []string{"/names", "/name?name=a", "/sessions", "/doctor", "/api/names", "/metrics", "/static/ui.js", "/", "/nothing", "/evict?name=a", "/static/"} {
				w := r.do(request(http.MethodGet, path, m.from))
				h := w.Header()
				require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", path)
				require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe", path)
				require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
				require.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
				require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
				require.Equal(t, "no-store", h.Get("Cache-Control"), path)
				require.NotContains(t, w.Body.String(), " style=", path)
				require.NotContains(t, w.Body.String(), "<style", path)
				require.NotContains(t, w.Body.String(), " onclick", path)
			}
		}, m.opts...)
	}
}

// A refused request learns nothing of etcd.
func TestARefusalSaysNothingOfLocks(t *testing.T) {
	for _, m := range modes(t) {
		run(t, func(r *rig) {
			r.hold("alpha", "jobs/nightly")
			w := r.do(request(http.MethodGet, "/names", m.from))
			require.Equal(t, w.Code == http.StatusOK, strings.Contains(w.Body.String(), "jobs/nightly"), m.title)
		}, m.opts...)
	}
}

func TestTheUserIsTheAuthenticatedOne(t *testing.T) {
	for _, m := range modes(t) {
		want := map[string]string{"token": "token", "mtls": "ada", "proxy": "ada", "`--allow`": "ada"}[m.title]
		if want == "" {
			continue
		}
		run(t, func(r *rig) {
			r.hold("alpha", "jobs/nightly")
			path := r.filled("/evict?name=jobs/nightly", m.from)
			require.Equal(t, http.StatusOK, r.do(request(http.MethodPost, path, withReason("because"), m.from)).Code)
			require.Contains(t, r.log.String(), "user="+want, m.title)
		}, m.opts...)
	}
	byToken, err := lockui.TokenAuth(token)
	require.NoError(t, err)
	run(t, func(r *rig) {
		w := r.do(request(http.MethodGet, "/names", func(q *http.Request) { q.SetBasicAuth("grace", token) }))
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Body.String(), "grace")
		w = r.do(request(http.MethodGet, "/names"))
		require.Contains(t, w.Header().Get("WWW-Authenticate"), "Basic")
	}, lockui.WithAuth(byToken), lockui.WithHosts("locks.example.com"))
}

func TestUnsafeOptionsAreRefused(t *testing.T) {
	_, err := lockui.TokenAuth("short")
	require.ErrorContains(t, err, "at least")
	_, err = lockui.ProxyAuth("X-Forwarded-User")
	require.ErrorContains(t, err, "addresses of the proxies")
	_, err = lockui.ParseAction("delete")
	require.ErrorContains(t, err, "no action")
	for _, opts := range [][]lockui.Option{
		{lockui.WithAuth(lockui.CertificateAuth())}, {lockui.WithHosts("*")}, {lockui.WithHosts("a.example.com:443")}, {lockui.WithHosts("")},
		{lockui.WithActions("delete")},
	} {
		_, err := lockui.New(nil, opts...)
		require.Error(t, err)
	}
}
