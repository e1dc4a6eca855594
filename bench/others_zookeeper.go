package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// zookeeperJars is a class path with ZooKeeper's server, or "" without one. Debian's jar
// names the others itself; that of the project lies among them.
func zookeeperJars() string {
	const debian = "/usr/share/java/zookeeper.jar"
	for _, home := range []string{os.Getenv("ZOOKEEPER_HOME"), "/opt/zookeeper", "/usr/local/zookeeper"} {
		lib := filepath.Join(home, "lib")
		if found, _ := filepath.Glob(filepath.Join(lib, "zookeeper-[0-9]*.jar")); home != "" && len(found) > 0 {
			return filepath.Join(lib, "*")
		}
	}
	if _, err := os.Stat(debian); err == nil {
		return debian
	}
	return ""
}

func startZooKeeper(ctx context.Context, kids *procs.Children, java, jars, dir string) (string, error) {
	data, port, err := room(dir, "zookeeper-")
	if err != nil {
		return "", err
	}
	config := filepath.Join(data, "zoo.cfg")
	// Without a limit of connections from one address, and with all that may be asked about it.
	err = os.WriteFile(config, fmt.Appendf(nil, `tickTime=2000
dataDir=%s
clientPortAddress=127.0.0.1
clientPort=%d
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=conf
`, data, port), 0o600)
	if err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(data, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(java, "-cp", jars, "-Xmx512m", "-Dzookeeper.jmx.log4j.disable=true", "-Dzookeeper.forceSync=yes",
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = data, log, log
	p, err := kids.Start(cmd)
	if err != nil {
		return "", fmt.Errorf("start zookeeper: %w", err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := answers(ctx, p, "zookeeper", func(ctx context.Context) error { return ownZooKeeper(ctx, address, data) }); err != nil {
		p.Kill()
		text, _ := os.ReadFile(log.Name())
		return "", fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(string(text[max(0, len(text)-500):])), " "))
	}
	return address, warmZooKeeper(ctx, address)
}

// warmZooKeeper keeps the server busy for a while: its code is slow before it has been
// used and compiled.
func warmZooKeeper(ctx context.Context, address string) error {
	s, err := zookeeperLink(address).session(ctx, sessionTTL)
	if err != nil {
		return err
	}
	defer s.close()
	mu := s.mutex("warm")
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		h, err := mu.lock(ctx)
		if err != nil {
			return err
		}
		if err := h.unlock(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ownZooKeeper tells whether the server answers, and whether it is the one on that data.
func ownZooKeeper(ctx context.Context, address, data string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second)) // a new connection has no reason to refuse
	if _, err := io.WriteString(conn, "conf"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(answer)) {
		// It keeps its data in a directory named after their format.
		if dir, ok := strings.CutPrefix(strings.TrimSpace(line), "dataDir="); ok {
			if filepath.Dir(dir) != data {
				return fmt.Errorf("%w: its data lies in %s", etcdproc.ErrForeign, dir)
			}
			return nil
		}
	}
	return fmt.Errorf("it says %q instead of where its data lies", answer)
}
