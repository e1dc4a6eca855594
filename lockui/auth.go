package lockui

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Auth is a way to authenticate the user of a request.
type Auth struct {
	mode      string
	challenge string // of an answer 401; empty: a refused request gets 403
	user      func(r *http.Request) (string, error)
}

// String names the mode.
func (a *Auth) String() string { return a.mode }

// leastToken is the minimum length of a token.
const leastToken = 20

// TokenAuth accepts requests with a secret token: in a header "Authorization: Bearer TOKEN", or as the
// password of HTTP basic authentication with any user name, which browsers ask for. The user name is
// what logs show, and the token alone is what counts. Serve the page by TLS only.
func TokenAuth(token string) (*Auth, error) {
	if len(token) < leastToken {
		return nil, fmt.Errorf("lockui: the token has %d bytes, and needs at least %d", len(token), leastToken)
	}
	want := sha256.Sum256([]byte(token))
	return &Auth{"token", `Basic realm="etcdlock", charset="UTF-8"`, func(r *http.Request) (string, error) {
		user, got, basic := r.BasicAuth()
		if !basic {
			user, got, _ = strings.Cut(r.Header.Get("Authorization"), " ")
			if !strings.EqualFold(user, "Bearer") {
				return "", errors.New("no token")
			}
			user = ""
		}
		if sum := sha256.Sum256([]byte(got)); subtle.ConstantTimeCompare(sum[:], want[:]) != 1 {
			return "", errors.New("a wrong token")
		}
		if user == "" {
			user = "token"
		}
		return user, nil
	}}, nil
}

// CertificateAuth accepts requests with a client certificate that the server has verified. The user is
// its common name. The server's TLS configuration must verify client certificates, as with
// tls.RequireAndVerifyClientCert.
func CertificateAuth() *Auth {
	return &Auth{"mtls", "", func(r *http.Request) (string, error) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
			return "", errors.New("no verified client certificate")
		}
		if cn := r.TLS.VerifiedChains[0][0].Subject.CommonName; cn != "" {
			return cn, nil
		}
		return "", errors.New("a client certificate without a common name")
	}}
}

// ProxyAuth accepts requests from trusted proxies that name the user in a header, such as
// X-Forwarded-User. A proxy must remove the header from the requests that it receives.
func ProxyAuth(header string, proxies ...netip.Prefix) (*Auth, error) {
	if header == "" || len(proxies) == 0 {
		return nil, errors.New("lockui: ProxyAuth needs a header and the addresses of the proxies")
	}
	return &Auth{"proxy", "", func(r *http.Request) (string, error) {
		from, err := remote(r)
		if err != nil {
			return "", err
		}
		trusted := false
		for _, p := range proxies {
			trusted = trusted || p.Contains(from)
		}
		values := r.Header.Values(header)
		switch {
		case !trusted:
			return "", fmt.Errorf("%v is no trusted proxy", from)
		case len(values) != 1 || values[0] == "":
			return "", fmt.Errorf("%d values of the header %s", len(values), header)
		}
		return values[0], nil
	}}, nil
}

// remote is the address that a request comes from.
func remote(r *http.Request) (netip.Addr, error) {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr().Unmap().WithZone(""), err
}
