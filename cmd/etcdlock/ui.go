package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdlock/etcdlock/lockui"
)

// uiFlags are the flags of the ui command.
type uiFlags struct {
	listen         string
	hosts          []string
	allow          []string
	auth           string
	tokenFile      string
	clientCA       string
	proxyHeader    string
	trustedProxies []string
	cert, key      string
}

func newUI(c *connection) *cobra.Command {
	f := &uiFlags{}
	cmd := &cobra.Command{
		Use:                   "ui [PREFIX]",
		DisableFlagsInUseLine: true,
		Short:                 "Serve a web page of locks, queues, sessions and deadlocks",
		Long: `Serves a page of the names that begin with a prefix, until it is interrupted: holders, queues,
sessions, deadlocks, the checks of the doctor, and /metrics. The page is kept current by one watch
of etcd, however many viewers there are. Without a prefix the watch has all keys of etcd.

The page is for this machine and read-only. Another address needs --auth and --host:
  token  a secret in --token-file, which browsers ask for as a password; needs TLS
  mtls   a client certificate by --client-ca
  proxy  a trusted proxy, which names the user in --proxy-header

--allow permits actions, from a list of ask, transfer, evict and limit. Each needs a reason, and is
logged on standard error with the user.`,
		Example: `  etcdlock ui
  etcdlock ui --allow ask,evict jobs/
  etcdlock ui --listen :9478 --host locks.example.com --auth proxy --trusted-proxy 10.0.0.7/32`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options()
			if err != nil {
				return usageError{err}
			}
			return f.serve(cmd.Context(), c, append(opts, lockui.WithPrefix(strings.Join(args, ""))))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:9478", "`address` to serve at")
	fl.StringSliceVar(&f.hosts, "host", nil, "`name` by which users reach the page, without a port; repeatable")
	fl.StringSliceVar(&f.allow, "allow", nil, "`actions` that are permitted: ask, transfer, evict, limit")
	fl.StringVar(&f.auth, "auth", "", "authentication: token, mtls or proxy")
	fl.StringVar(&f.tokenFile, "token-file", "", "`file` with the token, for --auth token")
	fl.StringVar(&f.clientCA, "client-ca", "", "`file` with the authorities of the users' certificates, for --auth mtls")
	fl.StringVar(&f.proxyHeader, "proxy-header", "X-Forwarded-User", "`header` that names the user, for --auth proxy")
	fl.StringSliceVar(&f.trustedProxies, "trusted-proxy", nil, "`network` of the proxy, such as 10.0.0.7/32, for --auth proxy; repeatable")
	fl.StringVar(&f.cert, "tls-cert", "", "`file` with the certificate of the page")
	fl.StringVar(&f.key, "tls-key", "", "`file` with the key of the certificate")
	return cmd
}

// options checks the flags. The handler enforces all of them again but those of TLS and the address.
func (f *uiFlags) options() ([]lockui.Option, error) {
	opts := []lockui.Option{
		lockui.WithHosts(f.hosts...), lockui.WithLocalUser(os.Getenv("USER")),
		lockui.WithSlog(slog.New(slog.NewTextHandler(os.Stderr, nil))),
	}
	for _, name := range f.allow {
		a, err := lockui.ParseAction(strings.TrimSpace(name))
		if err != nil {
			return nil, fmt.Errorf("--allow: %w", err)
		}
		opts = append(opts, lockui.WithActions(a))
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", f.listen, err)
	}
	addr, err := netip.ParseAddr(host)
	local := host == "localhost" || err == nil && addr.IsLoopback()
	switch {
	case (f.cert == "") != (f.key == ""):
		return nil, errors.New("give both --tls-cert and --tls-key")
	case f.auth == "" && !local:
		return nil, fmt.Errorf("--listen %s is not a loopback address, so it needs --auth", f.listen)
	case f.auth == "":
		return opts, nil
	case len(f.hosts) == 0:
		return nil, errors.New("--auth needs --host: name the hosts by which users reach the page")
	case f.cert == "" && (f.auth == "mtls" || f.auth == "token" && !local):
		return nil, fmt.Errorf("--auth %s needs --tls-cert and --tls-key", f.auth)
	}
	auth, err := f.authentication()
	return append(opts, lockui.WithAuth(auth)), err
}

func (f *uiFlags) authentication() (*lockui.Auth, error) {
	switch f.auth {
	case "token":
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		return lockui.TokenAuth(strings.TrimSpace(string(token)))
	case "mtls":
		if f.clientCA == "" {
			return nil, errors.New("--auth mtls needs --client-ca")
		}
		return lockui.CertificateAuth(), nil
	case "proxy":
		var from []netip.Prefix
		for _, text := range f.trustedProxies {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("--trusted-proxy: %w", err)
			}
			from = append(from, p)
		}
		return lockui.ProxyAuth(f.proxyHeader, from...)
	default:
		return nil, fmt.Errorf("--auth must be token, mtls or proxy, not %q", f.auth)
	}
}

// listener listens, by TLS if there is a certificate.
func (f *uiFlags) listener() (net.Listener, error) {
	l, err := net.Listen("tcp", f.listen)
	if err != nil || f.cert == "" {
		return l, err
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	if err == nil && f.auth == "mtls" {
		var pem []byte
		if pem, err = os.ReadFile(f.clientCA); err == nil {
			cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
			if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
				err = fmt.Errorf("--client-ca %s has no certificate", f.clientCA)
			}
		}
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return tls.NewListener(l, cfg), nil
}

// serve serves until a signal.
func (f *uiFlags) serve(ctx context.Context, c *connection, opts []lockui.Option) error {
	ctx, sigs := catchSignals(ctx)
	defer sigs.stop()
	client, err := c.client(ctx)
	if err != nil {
		return orSignal(ctx, err)
	}
	defer client.Close()
	l, err := f.listener()
	if err != nil {
		return err // not a usage error: the port or the files can be corrected under the same flags
	}
	defer l.Close()
	page, err := lockui.New(client, opts...)
	if err != nil {
		return usageError{err}
	}
	defer page.Close()
	server := &http.Server{Handler: page, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	scheme := map[bool]string{true: "http", false: "https"}[f.cert == ""]
	fmt.Fprintf(os.Stderr, "etcdlock: page at %s://%s/\n", scheme, l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return orSignal(ctx, context.Cause(ctx))
}
