package browser

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// world has the program, an etcd and a browser for all tests.
var world struct {
	command  string // the program
	etcd     *exec.Cmd
	endpoint string
	client   *clientv3.Client
	browser  context.Context
}

// wanted is set by make browser.
const wanted = "ETCDLOCK_BROWSER"

// needBrowser skips a test that runs without the target for it.
func needBrowser(t *testing.T) {
	t.Helper()
	if os.Getenv(wanted) == "" {
		t.Skip("only make browser runs it, because it needs Chromium")
	}
}

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(wanted) == "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "etcdlock-browser")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	world.command = filepath.Join(dir, "etcdlock")
	build := exec.Command("go", "build", "-o", world.command, ".")
	build.Dir, build.Stderr = filepath.Join("..", "..", "cmd", "etcdlock"), os.Stderr
	build.Env = append(os.Environ(), "GOWORK=off")
	if err := build.Run(); err != nil {
		panic(err)
	}
	var stop func()
	world.etcd, world.endpoint, stop = serveEtcd()
	defer stop()
	world.client, err = clientv3.New(clientv3.Config{Endpoints: []string{world.endpoint}, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	defer world.client.Close()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(time.Minute))
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	defer endAlloc()
	browser, endBrowser := chromedp.NewContext(alloc)
	defer endBrowser()
	if err := chromedp.Do(browser); err != nil {
		panic(fmt.Sprintf("no browser: %v; on Debian: apt-get install chromium", err))
	}
	world.browser = browser //nolint:fatcontext // it lives as long as the tests
	return m.Run()
}

// serveEtcd starts an etcd of the serve-dev command.
func serveEtcd() (cmd *exec.Cmd, endpoint string, stop func()) {
	cmd = exec.Command(world.command, "serve-dev", "--listen", "127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		panic(err)
	}
	return cmd, strings.TrimPrefix(strings.TrimSpace(line), "export ETCDCTL_ENDPOINTS="), func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// serveUI starts the ui command, and returns the address of the page and the process.
func serveUI(t *testing.T, args ...string) (address string, cmd *exec.Cmd) {
	t.Helper()
	needBrowser(t)
	cmd = exec.Command(world.command, append([]string{"ui", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+world.endpoint, "USER=ada")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	log := bufio.NewReader(out)
	line, err := log.ReadString('\n')
	require.NoError(t, err)
	_, address, _ = strings.Cut(strings.TrimSpace(line), "page at ")
	go func() {
		for err == nil {
			_, err = log.ReadString('\n')
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(address + "names")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	return address, cmd
}
