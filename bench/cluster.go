package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// cluster is an etcd of real processes that belongs to this run.
type cluster struct {
	endpoints []string
	members   []*child
	dir       string
}

// startCluster starts n members on free ports, with their data on the disk below dir.
func startCluster(ctx context.Context, kids *children, binary, dir string, n int) (*cluster, error) {
	token := "bench-" + strings.ToLower(rand.Text()[:12])
	dir = filepath.Join(dir, token)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * n)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	var names, peers []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", token, i))
		peers = append(peers, local(ports[2*i]))
		c.endpoints = append(c.endpoints, local(ports[2*i+1]))
	}
	var initial []string
	for i := range n {
		initial = append(initial, names[i]+"="+peers[i])
	}
	for i := range n {
		if err := c.startMember(kids, binary,
			"--name", names[i],
			"--data-dir", filepath.Join(dir, names[i]),
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--listen-client-urls", c.endpoints[i], "--advertise-client-urls", c.endpoints[i],
			"--initial-cluster", strings.Join(initial, ","),
			"--initial-cluster-token", token, "--initial-cluster-state", "new",
			"--log-level", "error",
		); err != nil {
			c.stop()
			return nil, err
		}
	}
	if err := c.ready(ctx, names); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func local(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

// freePorts asks the system for ports that nobody listens on. A member whose port is
// taken after all ends at once, and ready says so.
func freePorts(n int) ([]int, error) {
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

func (c *cluster) startMember(kids *children, binary string, args ...string) error {
	log, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("member-%d.log", len(c.members))))
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := kids.start(cmd)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	c.members = append(c.members, p)
	return nil
}

// ready waits until every member answers, has a leader and is one of ours: nothing is
// measured on, let alone written to, a cluster of somebody else.
func (c *cluster) ready(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i, endpoint := range c.endpoints {
		for {
			err := c.check(ctx, endpoint, names)
			if err == nil {
				break
			}
			if errors.Is(err, errForeign) {
				return err
			}
			select {
			case <-c.members[i].gone:
				return fmt.Errorf("etcd ended (%w); its log is %s", c.members[i].err, c.log(i))
			case <-ctx.Done():
				return fmt.Errorf("etcd at %s does not get ready: %w", endpoint, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

var errForeign = errors.New("this is not the cluster that was started here")

func (c *cluster) check(ctx context.Context, endpoint string, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client, err := newClient([]string{endpoint})
	if err != nil {
		return err
	}
	defer client.Close()
	members, err := client.MemberList(ctx)
	if err != nil {
		return err
	}
	var found []string
	for _, m := range members.Members {
		if m.Name == "" {
			return errors.New("a member has not published its name yet")
		}
		found = append(found, m.Name)
	}
	slices.Sort(found)
	if !slices.Equal(found, names) {
		return fmt.Errorf("%w: %s has the members %v instead of %v", errForeign, endpoint, found, names)
	}
	_, err = client.Put(ctx, "bench/ready", "") // there is a leader
	return err
}

// log returns the last line that a member wrote.
func (c *cluster) log(i int) string {
	text, err := os.ReadFile(filepath.Join(c.dir, fmt.Sprintf("member-%d.log", i)))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

func (c *cluster) stop() {
	for _, m := range c.members {
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, m := range c.members {
		m.end(syscall.SIGTERM, 3*time.Second)
	}
	_ = os.RemoveAll(c.dir)
}
