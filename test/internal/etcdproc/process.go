package etcdproc

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a child of ours, in a process group of its own so that what it starts ends
// with it.
type Process struct {
	Cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	err  error         // of Wait; read after gone
	once sync.Once
}

// Start starts a process and waits for it in the background.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Cmd: cmd, gone: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// Gone is closed when the process has ended; Err then tells how.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Err is how the process ended, once it has.
func (p *Process) Err() error {
	<-p.gone
	return p.err
}

// Signal signals the process itself.
func (p *Process) Signal(s syscall.Signal) error { return p.Cmd.Process.Signal(s) }

// Kill ends the process and what it started, and waits for it. It may have ended before.
func (p *Process) Kill() {
	p.once.Do(func() { _ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL) })
	<-p.gone
}

// Etcd is one running etcd, or a proxy of one, listening for clients on Endpoint.
type Etcd struct {
	*Process
	Endpoint string // a URL
	log      string
}

// FreePorts are ports that nobody listens on. A server whose port is taken after all
// ends at once, which whoever waits for it sees.
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

// Config is how a cluster differs from a plain one.
type Config struct {
	Size  int
	Dir   string   // for data and logs; it is the caller's to remove
	Args  []string // more arguments of etcd
	HTTPS bool     // clients come by TLS, which Args configure
}

// Cluster is an etcd of processes.
type Cluster struct {
	Programs
	Members []*Etcd
}

// StartCluster starts the members on free ports. They need not answer yet.
func (p Programs) StartCluster(cfg Config) (*Cluster, error) {
	ports, err := FreePorts(2 * cfg.Size)
	if err != nil {
		return nil, err
	}
	scheme := map[bool]string{false: "http", true: "https"}[cfg.HTTPS]
	peer := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]) }
	token := filepath.Base(cfg.Dir)
	var initial []string
	for i := range cfg.Size {
		initial = append(initial, fmt.Sprintf("%s-%d=%s", token, i, peer(i)))
	}
	c := &Cluster{Programs: p}
	for i := range cfg.Size {
		name := fmt.Sprintf("%s-%d", token, i)
		endpoint := fmt.Sprintf("%s://127.0.0.1:%d", scheme, ports[2*i+1])
		m, err := p.StartEtcd(endpoint, filepath.Join(cfg.Dir, name+".log"), append([]string{
			"--name", name, "--data-dir", filepath.Join(cfg.Dir, name),
			"--listen-peer-urls", peer(i), "--initial-advertise-peer-urls", peer(i),
			"--listen-client-urls", endpoint, "--advertise-client-urls", endpoint,
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", token,
			"--log-level", "error",
		}, cfg.Args...)...)
		if err != nil {
			c.Stop()
			return nil, err
		}
		c.Members = append(c.Members, m)
	}
	return c, nil
}

// StartEtcd starts etcd with some arguments, with its output in a file.
func (p Programs) StartEtcd(endpoint, log string, args ...string) (*Etcd, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own descriptor
	cmd := exec.Command(p.Etcd, args...)
	cmd.Stdout, cmd.Stderr = out, out
	child, err := Start(cmd)
	if err != nil {
		return nil, err
	}
	return &Etcd{Process: child, Endpoint: endpoint, log: log}, nil
}

// Ready waits until try succeeds for a member, which is given its endpoint. It fails when
// the process ends.
func (e *Etcd) Ready(ctx context.Context, try func(ctx context.Context, endpoint string) error) error {
	for {
		err := try(ctx, e.Endpoint)
		if err == nil {
			return nil
		}
		select {
		case <-e.Gone():
			return fmt.Errorf("etcd ended: %w: %s", e.Err(), e.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("etcd at %s does not get ready: %w: %s", e.Endpoint, err, e.lastWords())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lastWords is the end of its log.
func (e *Etcd) lastWords() string {
	text, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1000):])
}

// Endpoints are those of all members.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.Endpoint)
	}
	return all
}

// Stop ends all members.
func (c *Cluster) Stop() {
	for _, m := range c.Members {
		m.Kill()
	}
}
