package lockui

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const mostBody = 64 << 10 // bytes of a form

// policy lets a page load its own style sheet, script and icon, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// userKey is the key of the user in the context of a request.
type userKey struct{}

func userOf(r *http.Request) string {
	user, _ := r.Context().Value(userKey{}).(string)
	return user
}

// guard checks each request before any route sees it.
func (h *Handler) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy":      policy,
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer", // addresses have names of locks
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cache-Control":                "no-store",
		} {
			w.Header().Set(name, value)
		}
		if !h.knows(r.Host) {
			h.refuse(w, r, http.StatusMisdirectedRequest, "This page is not served under the name "+r.Host+".", "host")
			return
		}
		user, ok := h.authenticate(w, r)
		if !ok {
			return
		}
		if err := h.origin.Check(r); err != nil {
			h.refuse(w, r, http.StatusForbidden, "The request comes from another web site.", err.Error())
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, mostBody)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

// knows reports whether a Host header is a name of this page.
func (h *Handler) knows(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() {
		return true
	}
	return host == "localhost" || slices.Contains(h.cfg.hosts, host)
}

// forwarded are the headers of proxies.
var forwarded = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"}

// authenticate returns the user of a request. If there is none, it has answered the request.
func (h *Handler) authenticate(w http.ResponseWriter, r *http.Request) (user string, ok bool) {
	if a := h.cfg.auth; a != nil {
		user, err := a.user(r)
		switch {
		case err == nil:
			return user, true
		case a.challenge != "":
			w.Header().Set("WWW-Authenticate", a.challenge)
			h.refuse(w, r, http.StatusUnauthorized, "This page needs a token.", err.Error())
		default:
			h.refuse(w, r, http.StatusForbidden, "This page needs an authenticated user.", err.Error())
		}
		return "", false
	}
	from, err := remote(r)
	if err != nil || !from.IsLoopback() {
		h.refuse(w, r, http.StatusForbidden, "Without authentication this page is for the same machine only.", "remote address")
		return "", false
	}
	for _, header := range forwarded { // a proxy on this machine, which brings requests of others
		if r.Header.Get(header) != "" {
			h.refuse(w, r, http.StatusForbidden, "Without authentication this page is not for proxies.", header)
			return "", false
		}
	}
	return h.cfg.local, true
}

// refuse logs a refusal and answers with a page.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, says, why string) {
	h.cfg.log.Warn("request refused", "status", status, "why", why, "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr)
	h.fail(w, r, status, says)
}
