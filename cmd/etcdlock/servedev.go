package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"go.etcd.io/etcd/server/v3/embed"
)

// serveFlags are the flags of the serve-dev command.
type serveFlags struct {
	listen  string
	dataDir string
}

func newServeDev(c *connection) *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve-dev",
		Short: "Serve an etcd for development",
		Long: `Serves a single etcd, without TLS and users, until it is interrupted.

Its first line is a shell command that sets the endpoint for etcdlock and etcdctl. On the default
port they need no such setting. The data is in memory, in a temporary directory that is removed at
the end, unless --data-dir is given. For production, run etcd itself on three or five machines.`,
		Example: `  etcdlock serve-dev &
  etcdlock serve-dev --listen 127.0.0.1:0 --data-dir ./data`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, sigs := catchSignals(cmd.Context())
			defer sigs.stop()
			return f.serve(ctx, c.debug)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:2379", "address for clients; port 0 is any free port")
	fl.StringVar(&f.dataDir, "data-dir", "", "directory for the data (default in memory)")
	return cmd
}

// serve returns when ctx ends, or when the server ends by itself.
func (f *serveFlags) serve(ctx context.Context, debug bool) (err error) {
	cfg := embed.NewConfig()
	cfg.Name = "etcdlock-dev"
	if cfg.Dir = f.dataDir; cfg.Dir == "" {
		if cfg.Dir, err = temporaryDir(); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.Dir)
		cfg.UnsafeNoFsync = true // a crash that fsync protects against loses this directory too
	}
	client, err := clientURL(f.listen)
	if err != nil {
		return err
	}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"} // for no other member
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	logger := zap.NewNop()
	if debug {
		if logger, err = zap.NewDevelopment(); err != nil {
			return err
		}
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("etcd at %s: %w", f.listen, err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		return errors.New("etcd is not ready after 30 s; --debug prints its log")
	case <-ctx.Done():
		return nil
	}
	if _, err := fmt.Println("export ETCDCTL_ENDPOINTS=" + client.Host); err != nil {
		return err
	}
	select {
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return nil
	}
}

// clientURL is the URL on which to listen. For port 0 it has a free port.
func clientURL(listen string) (url.URL, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return url.URL{}, fmt.Errorf("--listen: %w", err) // usually another etcd has the port
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}, nil
}

// devDir begins the names of temporary directories; the number of the process follows.
const devDir = "etcdlock-dev-"

// temporaryDir creates a directory, in memory if the system has a place for that. It first removes
// the directories of processes that were killed.
func temporaryDir() (string, error) {
	base := "/dev/shm"
	if info, err := os.Stat(base); err != nil || !info.IsDir() {
		base = os.TempDir()
	}
	left, _ := filepath.Glob(filepath.Join(base, devDir+"*"))
	for _, dir := range left {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), devDir))
		if err == nil && !alive(pid) {
			_ = os.RemoveAll(dir)
		}
	}
	dir := filepath.Join(base, devDir+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, nil
}

// alive reports whether the process exists, as far as this process may know.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}
