package etcdproc

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/procs"
)

// Config says what to start.
type Config struct {
	Size int
	Dir  string   // a directory for the cluster is made in it; "": where temporary files go
	Args []string // more arguments of etcd
	Env  []string // in addition to this process's

	// TLS is for clients, including the cluster's own, if Args make the members speak TLS.
	TLS *tls.Config

	// DataDir returns the directory for a member's data. A nil DataDir means a directory below that
	// of the cluster. A directory that DataDir returns is not removed with the cluster.
	DataDir func(member int) string
}

// Cluster is an etcd of real processes that belongs to this run.
type Cluster struct {
	Programs
	Members []*Member

	dir string
	tls *tls.Config
}

// Start starts the members on free ports and returns when all of them answer.
func (p Programs) Start(ctx context.Context, kids *procs.Children, cfg Config) (*Cluster, error) {
	if cfg.Dir == "" {
		cfg.Dir = os.TempDir()
	}
	token := "etcd-" + strings.ToLower(rand.Text()[:12])
	c := &Cluster{Programs: p, dir: filepath.Join(cfg.Dir, token), tls: cfg.TLS}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.start(kids, cfg, token); err != nil {
		c.Stop()
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// start starts the members; they need not answer yet.
func (c *Cluster) start(kids *procs.Children, cfg Config, token string) error {
	ports, err := FreePorts(2 * cfg.Size)
	if err != nil {
		return err
	}
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	var initial []string
	for i := range cfg.Size {
		name := fmt.Sprintf("%s-%d", token, i)
		m := &Member{
			Name: name, Peer: local("http", ports[2*i]), DataDir: filepath.Join(c.dir, name), cluster: c,
			Server: &Server{Endpoint: local(scheme, ports[2*i+1]), kids: kids, binary: c.Etcd, env: cfg.Env, log: filepath.Join(c.dir, name+".log")},
		}
		if cfg.DataDir != nil {
			m.DataDir = cfg.DataDir(i)
		}
		c.Members = append(c.Members, m)
		initial = append(initial, m.Name+"="+m.Peer)
	}
	for _, m := range c.Members {
		m.args = append([]string{
			"--name", m.Name,
			"--data-dir", m.DataDir,
			"--listen-peer-urls", m.Peer, "--initial-advertise-peer-urls", m.Peer,
			"--listen-client-urls", m.Endpoint, "--advertise-client-urls", m.Endpoint,
			"--initial-cluster", strings.Join(initial, ","),
			"--initial-cluster-token", token, "--initial-cluster-state", "new",
			"--log-level", "error",
		}, cfg.Args...)
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

func local(scheme string, port int) string { return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port) }

// The ports of members lie below the range of outgoing connections, which begins at 32768 or higher.
// Otherwise an outgoing connection could take a member's port before the member listens, or during
// its restart.
const (
	firstPort = 10000
	portRange = 20000
)

// FreePorts returns random ports without a listener. Another process may take one before the member
// listens. That member then ends at once, and Start reports this.
func FreePorts(n int) (ports []int, err error) {
	for range 100 * (n + 1) {
		if len(ports) == n {
			return ports, nil
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+mathrand.IntN(portRange))); err != nil {
			continue
		}
		defer l.Close() //nolint:revive // all are kept until the last one is known, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return nil, fmt.Errorf("no free ports for etcd: %w", err)
}

// Endpoints are the members' client URLs.
func (c *Cluster) Endpoints() []string {
	var urls []string
	for _, m := range c.Members {
		urls = append(urls, m.Endpoint)
	}
	return urls
}

// Client connects to the given endpoints, to those of all members if there are none.
func (c *Cluster) Client(endpoints ...string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		endpoints = c.Endpoints()
	}
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, TLS: c.tls, Logger: zap.NewNop()})
}

// ready waits until every member answers, has a leader and belongs to this cluster. Nothing may be
// measured on another cluster, or written to it.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, m := range c.Members {
		var foreign error
		err := m.Await(ctx, func(ctx context.Context) error {
			err := c.check(ctx, m.Endpoint)
			if errors.Is(err, ErrForeign) {
				foreign, err = err, nil // waiting does not help
			}
			return err
		})
		if err = errors.Join(err, foreign); err != nil {
			return err
		}
	}
	return nil
}

// ErrForeign is returned when a member of another cluster answers at an address of this one.
var ErrForeign = errors.New("this is not the cluster that was started here")

// probe is the key by which ready tests writes and reads.
const probe = "etcdproc/ready"

func (c *Cluster) check(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client, err := c.Client(endpoint)
	if err != nil {
		return err
	}
	defer client.Close()
	members, err := client.MemberList(ctx)
	if err != nil {
		return err
	}
	var found, own []string
	for _, m := range members.Members {
		if m.Name == "" {
			return errors.New("a member has not published its name yet")
		}
		found = append(found, m.Name)
	}
	for _, m := range c.Members {
		own = append(own, m.Name)
	}
	slices.Sort(found)
	slices.Sort(own)
	if !slices.Equal(found, own) {
		return fmt.Errorf("%w: %s has the members %v instead of %v", ErrForeign, endpoint, found, own)
	}
	if _, err = client.Put(ctx, probe, ""); err != nil { // there is a leader
		return err
	}
	_, err = client.Delete(ctx, probe)
	return err
}

// Stop ends the members and removes the cluster's directory.
func (c *Cluster) Stop() {
	for _, m := range c.Members {
		if m.Child != nil {
			_ = m.Signal(syscall.SIGTERM)
			m.Continue()
		}
	}
	for _, m := range c.Members {
		if m.Child != nil {
			m.End(syscall.SIGTERM, 3*time.Second)
		}
	}
	_ = os.RemoveAll(c.dir)
}
