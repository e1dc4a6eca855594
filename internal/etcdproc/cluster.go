package etcdproc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	Binary string   // an etcd
	Env    []string // in addition to this process's
	Dir    string   // a directory for the cluster is made in it
	Size   int

	// DataDir is where a member keeps its data; nil: below the cluster's directory.
	// What it returns is not removed with the cluster.
	DataDir func(member int) string
}

// Cluster is an etcd of real processes that belongs to this run.
type Cluster struct {
	Members []*Member
	dir     string
}

// Start starts the members on free ports and returns when all of them answer.
func Start(ctx context.Context, kids *procs.Children, cfg Config) (*Cluster, error) {
	token := "etcd-" + strings.ToLower(rand.Text()[:12])
	c := &Cluster{dir: filepath.Join(cfg.Dir, token)}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	ports, err := FreePorts(2 * cfg.Size)
	if err != nil {
		return nil, err
	}
	var initial []string
	for i := range cfg.Size {
		m := &Member{
			Name: fmt.Sprintf("%s-%d", token, i), Peer: local(ports[2*i]), Endpoint: local(ports[2*i+1]),
			log: filepath.Join(c.dir, fmt.Sprintf("member-%d.log", i)), binary: cfg.Binary, env: cfg.Env, kids: kids,
		}
		m.DataDir = filepath.Join(c.dir, m.Name)
		if cfg.DataDir != nil {
			m.DataDir = cfg.DataDir(i)
		}
		c.Members = append(c.Members, m)
		initial = append(initial, m.Name+"="+m.Peer)
	}
	for _, m := range c.Members {
		m.flags = []string{
			"--name", m.Name,
			"--data-dir", m.DataDir,
			"--listen-peer-urls", m.Peer, "--initial-advertise-peer-urls", m.Peer,
			"--listen-client-urls", m.Endpoint, "--advertise-client-urls", m.Endpoint,
			"--initial-cluster", strings.Join(initial, ","),
			"--initial-cluster-token", token, "--initial-cluster-state", "new",
			"--log-level", "error",
		}
		if err := m.Start(); err != nil {
			c.Stop()
			return nil, err
		}
	}
	if err := c.ready(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func local(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

// FreePorts asks the system for ports that nobody listens on. A member whose port is
// taken after all ends at once, and Start says so.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() //nolint:revive // all are kept until the last one is known, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
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
	return connect(endpoints...)
}

func connect(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
}

// ready waits until every member answers, has a leader and is one of ours: nothing is
// measured on, let alone written to, a cluster of somebody else.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, m := range c.Members {
		for {
			err := c.check(ctx, m.Endpoint)
			if err == nil {
				break
			}
			if errors.Is(err, ErrForeign) {
				return err
			}
			select {
			case <-m.Gone():
				return fmt.Errorf("etcd ended (%w); its log ends with %s", m.Err(), m.LastWords())
			case <-ctx.Done():
				return fmt.Errorf("etcd at %s does not get ready: %w", m.Endpoint, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// ErrForeign is returned when somebody else answers at an address of ours.
var ErrForeign = errors.New("this is not the cluster that was started here")

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
	const probe = "etcdproc/ready"
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
			_ = m.Signal(syscall.SIGCONT)
		}
	}
	for _, m := range c.Members {
		if m.Child != nil {
			m.End(syscall.SIGTERM, 3*time.Second)
		}
	}
	_ = os.RemoveAll(c.dir)
}
