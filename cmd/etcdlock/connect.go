package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"go.etcd.io/etcd/client/pkg/v3/srv"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
)

// connection has the flags that say how etcd is reached. They are those of etcdctl. Each can also
// be set by its variable, such as ETCDCTL_CACERT for --cacert.
type connection struct {
	endpoints          []string
	discoverySRV       string
	discoverySRVName   string
	insecureDiscovery  bool
	foreignNames       bool
	dialTimeout        time.Duration
	commandTimeout     time.Duration
	keepAliveTime      time.Duration
	keepAliveTimeout   time.Duration
	insecureTransport  bool
	insecureSkipVerify bool
	cert, key, caCert  string
	user, password     string
	debug              bool

	silence silence
}

func (c *connection) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	f.StringVar(&c.discoverySRV, "discovery-srv", "", "domain name to query for SRV records describing cluster endpoints")
	f.StringVar(&c.discoverySRVName, "discovery-srv-name", "", "service name to query when using DNS discovery")
	f.BoolVar(&c.insecureDiscovery, "insecure-discovery", true, "accept insecure SRV records describing cluster endpoints")
	f.BoolVar(&c.foreignNames, "foreign-names", false, "accept names that end in a slash, as in etcd's own examples (\"/my-lock/\")")
	durationVar(f, &c.dialTimeout, "dial-timeout", "", 2*time.Second, "dial timeout for client connections")
	durationVar(f, &c.commandTimeout, "command-timeout", "", 5*time.Second, "timeout for short requests, not for waits in a queue")
	durationVar(f, &c.keepAliveTime, "keepalive-time", "", 2*time.Second, "keepalive time for client connections")
	durationVar(f, &c.keepAliveTimeout, "keepalive-timeout", "", 6*time.Second, "keepalive timeout for client connections")
	f.BoolVar(&c.insecureTransport, "insecure-transport", true, "disable transport security for client connections")
	f.BoolVar(&c.insecureSkipVerify, "insecure-skip-tls-verify", false, "skip server certificate verification (use for tests only)")
	f.StringVar(&c.cert, "cert", "", "identify secure client using this TLS certificate file")
	f.StringVar(&c.key, "key", "", "identify secure client using this TLS key file")
	f.StringVar(&c.caCert, "cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
	f.StringVar(&c.user, "user", "", "username[:password] for authentication (prompt if password is not supplied)")
	f.StringVar(&c.password, "password", "", "password for authentication (if this option is used, --user must not include password)")
	f.BoolVar(&c.debug, "debug", false, "print the log of the library and of etcd's client on standard error")
}

// fromEnv sets the flags that were not given from their variables, as etcdctl does.
func fromEnv(f *pflag.FlagSet) error {
	var bad error
	f.VisitAll(func(flag *pflag.Flag) {
		name := "ETCDCTL_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		value := os.Getenv(name)
		if flag.Value.Type() != "string" { // a password may begin or end with spaces
			value = strings.TrimSpace(value)
		}
		if value != "" && !flag.Changed && bad == nil {
			if err := f.Set(flag.Name, value); err != nil {
				bad = usagef("%s: %w", name, err)
			}
		}
	})
	return bad
}

// trim removes spaces and line ends around endpoints, as in a list that was written by hand.
func (c *connection) trim() error {
	var endpoints []string
	for _, e := range c.endpoints {
		if e = strings.TrimSpace(e); e != "" {
			endpoints = append(endpoints, e)
		}
	}
	c.endpoints = endpoints
	c.discoverySRV, c.discoverySRVName = strings.TrimSpace(c.discoverySRV), strings.TrimSpace(c.discoverySRVName)
	if len(endpoints) == 0 && c.discoverySRV == "" {
		return usagef("--endpoints is empty: give at least one, such as 127.0.0.1:2379")
	}
	return nil
}

// client connects to etcd. ctx bounds only the search for the endpoints.
func (c *connection) client(ctx context.Context) (*clientv3.Client, error) {
	if err := c.trim(); err != nil {
		return nil, err
	}
	if err := c.discover(ctx); err != nil {
		return nil, err
	}
	cfg := clientv3.Config{
		Endpoints:            c.endpoints,
		DialTimeout:          c.dialTimeout,
		DialKeepAliveTime:    c.keepAliveTime,
		DialKeepAliveTimeout: c.keepAliveTimeout,
		Logger:               c.logger(),
	}
	if c.user != "" {
		user, password, both := strings.Cut(c.user, ":")
		switch {
		case both && c.password != "":
			return nil, usagef("give the password with --user or with --password, not with both")
		case !both && c.password == "":
			var err error
			if c.password, err = askPassword(user); err != nil {
				return nil, usageError{err}
			}
		}
		if !both {
			password = c.password
		}
		cfg.Username, cfg.Password = user, password
	}
	if err := c.secure(&cfg); err != nil {
		return nil, err
	}
	watched := cfg
	watched.DialOptions = c.silence.options(func(ctx context.Context) []string { return probeAll(ctx, cfg) })
	defer c.silence.add(nil)() // New waits for etcd if there is a user
	client, err := clientv3.New(watched)
	if err != nil {
		return nil, unreachable{fmt.Errorf("etcd at %s: %w", strings.Join(c.endpoints, ", "), err)}
	}
	context.AfterFunc(client.Ctx(), c.silence.add(client))
	return client, nil
}

// resolver answers the lookups of discover. A test replaces it.
var resolver = net.DefaultResolver

// discover takes the endpoints from DNS if --discovery-srv is given.
func (c *connection) discover(ctx context.Context) error {
	if c.discoverySRV == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.commandTimeout)
	defer cancel()
	schemes := []string{"https", "http"}
	if !c.insecureDiscovery {
		schemes = schemes[:1]
	}
	var found []string
	var failed []error
	for _, scheme := range schemes { // like srv.GetClient, which takes no context
		_, records, err := resolver.LookupSRV(ctx, srv.GetSRVService("etcd-client", c.discoverySRVName, scheme), "tcp", c.discoverySRV)
		if err != nil {
			failed = append(failed, err)
		}
		for _, r := range records {
			found = append(found, scheme+"://"+net.JoinHostPort(r.Target, strconv.Itoa(int(r.Port))))
		}
	}
	if len(failed) == len(schemes) {
		return unreachable{fmt.Errorf("SRV records of %q: %w", c.discoverySRV, errors.Join(failed...))}
	}
	if c.endpoints = found; len(found) == 0 {
		return unreachable{fmt.Errorf("SRV records of %q name no endpoint that --insecure-discovery allows", c.discoverySRV)}
	}
	return nil
}

// secure sets up TLS if a flag or an endpoint asks for it.
func (c *connection) secure(cfg *clientv3.Config) error {
	https := false
	for _, e := range c.endpoints {
		https = https || strings.HasPrefix(e, "https://")
	}
	if c.cert == "" && c.key == "" && c.caCert == "" && !https && c.insecureTransport {
		return nil
	}
	info := transport.TLSInfo{CertFile: c.cert, KeyFile: c.key, TrustedCAFile: c.caCert, InsecureSkipVerify: c.insecureSkipVerify}
	tls, err := info.ClientConfig()
	if err != nil {
		return fmt.Errorf("TLS: %w", err) // not a usage error: the files can be corrected under the same flags
	}
	tls.InsecureSkipVerify = c.insecureSkipVerify
	cfg.TLS = tls
	return nil
}

func (c *connection) logger() *zap.Logger {
	if !c.debug {
		return zap.NewNop()
	}
	cfg := zap.NewDevelopmentConfig()
	logger, err := cfg.Build()
	if err != nil {
		return zap.NewNop()
	}
	return logger
}

// session connects and creates a session. The returned function closes both, which deletes the
// session's keys in etcd.
func (c *connection) session(ctx context.Context, opts ...etcdlock.SessionOption) (*etcdlock.Session, func(), error) {
	s, _, end, err := c.open(ctx, 0, opts...)
	return s, end, err
}

// open is like session, and also returns the client. It waits for etcd until timeout, or until
// --command-timeout if timeout is 0.
func (c *connection) open(ctx context.Context, timeout time.Duration, opts ...etcdlock.SessionOption) (*etcdlock.Session, *clientv3.Client, func(), error) {
	patience, flag := c.commandTimeout, "--command-timeout"
	if timeout > 0 {
		patience, flag = timeout, "--timeout"
		c.dialTimeout = timeout // bounds the authentication of a user
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := c.client(bounded)
	if err != nil {
		return nil, nil, nil, err
	}
	if c.foreignNames {
		opts = append(opts, etcdlock.WithForeignNames())
	}
	s, err := etcdlock.NewSession(bounded, client, append(opts, etcdlock.WithLogger(c.logger()))...)
	if err != nil {
		_ = client.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = unreachable{fmt.Errorf("etcd at %s: no answer within %v (%s): %w", strings.Join(c.endpoints, ", "), patience, flag, err)}
		}
		return nil, nil, nil, err
	}
	return s, client, func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.commandTimeout)
		defer cancel()
		_ = s.Close(ctx) // after an error the lease expires
		_ = client.Close()
	}, nil
}

// briefly calls f with a client, for short requests without a session.
func (c *connection) briefly(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.commandTimeout)
	defer cancel()
	err = f(ctx, client)
	if fromEtcd(err) || errors.Is(err, context.DeadlineExceeded) {
		return unreachable{fmt.Errorf("etcd at %s: %w", strings.Join(c.endpoints, ", "), err)}
	}
	return err
}
