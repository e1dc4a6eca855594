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

// serveFlags are those of the serve-dev command.
type serveFlags struct {
	listen  string
	dataDir string
}

func newServeDev(c *connection) *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve-dev",
		Short: "Serve an etcd for a developer's machine",
		Long: `Serves a single etcd, without TLS and users, until it is interrupted. Its first line says how
others reach it; etcdlock and etcdctl do by themselves if it is on the usual port.

It keeps its data in memory (in a temporary directory that is removed at the end) unless it
gets a directory. It is not for production: run etcd there, on three machines or five.`,
		Example: `  etcdlock serve-dev &
  etcdlock lock backup -- ./backup.sh`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, sigs := catchSignals(cmd.Context())
			defer sigs.stop()
			return f.serve(ctx, c.debug)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:2379", "address for clients; port 0 is any free one")
	fl.StringVar(&f.dataDir, "data-dir", "", "directory to keep the data in (default in memory)")
	return cmd
}

// serve returns when ctx has ended, or the server by itself.
func (f *serveFlags) serve(ctx context.Context, debug bool) (err error) {
	cfg := embed.NewConfig()
	cfg.Name = "etcdlock-dev"
	if cfg.Dir = f.dataDir; cfg.Dir == "" {
		if cfg.Dir, err = temporaryDir(); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.Dir)
		cfg.UnsafeNoFsync = true // what it would protect from takes the directory too
	}
	client, err := clientURL(f.listen)
	if err != nil {
		return err
	}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"} // there are no others
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
		return errors.New("etcd does not get ready")
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

// clientURL is where to listen, with a port that is free if any will do.
func clientURL(listen string) (url.URL, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return url.URL{}, err // somebody else's etcd, as a rule
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}, nil
}

// devDir begins the names of temporary directories; the number of the process follows.
const devDir = "etcdlock-dev-"

// temporaryDir makes a directory, in memory where the system has a place for that. Those of
// processes that were killed are removed first.
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

// alive tells whether there is such a process, as far as this one may know.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}
