package mixed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/procs"
)

// processEnv holds, as JSON, the settings of a process of ours: this test binary, started
// again, which takes a lock or campaigns, tells its token and holds until it is killed or
// its standard input ends.
const processEnv = "ETCDLOCK_MIXED_PROCESS"

type processSettings struct {
	Endpoints []string
	Name      string
	Election  bool
}

func processMain() int {
	if err := holdInProcess(); err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	return 0
}

func holdInProcess() error {
	var set processSettings
	if err := json.Unmarshal([]byte(os.Getenv(processEnv)), &set); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: set.Endpoints, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := etcdlock.NewSession(ctx, client, etcdlock.WithTTL(ttl))
	if err != nil {
		return err
	}
	if set.Election {
		term, err := etcdlock.NewElection(s, set.Name).Campaign(ctx, "process")
		if err != nil {
			return err
		}
		fmt.Println(term.Token())
	} else {
		lock, err := etcdlock.NewMutex(s, set.Name).Lock(ctx)
		if err != nil {
			return err
		}
		fmt.Println(lock.Token())
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
	return s.Close(ctx)
}

// startProcess starts a process of ours and returns the token by which it holds.
func (w *world) startProcess(set processSettings) (*procs.Child, int64, error) {
	set.Endpoints = w.cluster.Endpoints()
	text, err := json.Marshal(set)
	if err != nil {
		return nil, 0, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), processEnv+"="+string(text))
	p, stdin, stdout, err := kids.Talk(cmd)
	if err != nil {
		return nil, 0, err
	}
	defer stdout.Close()
	w.t.Cleanup(func() {
		p.Kill()
		stdin.Close()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return p, 0, err
	}
	var token int64
	if _, err := fmt.Sscan(line, &token); err != nil {
		return p, 0, fmt.Errorf("the process says %q", strings.TrimSpace(line))
	}
	return p, token, nil
}
