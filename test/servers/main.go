// Servers runs the tests of ./mixed, in which etcd is made of processes, on several
// versions of etcd, and prints what came of it. Run it in the test module:
//
//	go run ./servers                     # all versions below
//	go run ./servers v3.5.35 debian      # these
//
// Versions of 3.5 and later are built from the module proxy, which takes a minute or two
// each, once: they are kept in the user's cache directory. "debian" is what the Debian
// packages etcd-server and etcd-client have, unpacked beside them and not installed.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/etcdlock/etcdlock/internal/etcdproc"
)

// versions are the newest ones of each line.
var versions = []string{"v3.7.3", "v3.6.16", "v3.5.35", "debian"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) > 1 {
		versions = os.Args[1:]
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "etcd\tpassed\tfailed\tskipped\tfleet operations\tviolations\ttook")
	good := true
	for _, version := range versions {
		r, err := try(ctx, version)
		if err != nil {
			good = false
			fmt.Fprintf(table, "%s\tnot tested: %s\n", version, strings.Split(err.Error(), "\n")[0])
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		good = good && r.failed == 0 && r.violations == 0 && r.passed > 0
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%v\n", r.version, r.passed, r.failed, r.skipped, r.operations, r.violations, r.took.Round(time.Second))
	}
	table.Flush()
	fmt.Print("\n", b.String())
	if !good {
		os.Exit(1)
	}
}

// result is what came of the tests on one version.
type result struct {
	version                 string
	passed, failed, skipped int // tests, without their parts
	operations, violations  int
	took                    time.Duration
}

func try(ctx context.Context, version string) (r result, err error) {
	fmt.Println("==", version)
	p, err := programs(ctx, version)
	if err != nil {
		return r, err
	}
	r.version = p.Version
	begun := time.Now()
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count", "1", "-timeout", "9m", "./mixed")
	cmd.Env = append(os.Environ(), "ETCDLOCK_ETCD_DIR="+filepath.Dir(p.Etcd))
	cmd.Stderr = os.Stderr
	// The tests end with the go command, and with them the servers that they started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	r.read(bufio.NewScanner(out))
	r.took = time.Since(begun)
	if err := cmd.Wait(); err != nil && r.failed == 0 {
		return r, err // it did not even come to tests
	}
	return r, nil
}

// total is the line that the fleets end with.
var total = regexp.MustCompile(`fleets: (\d+) operations, (\d+) violations`)

func (r *result) read(lines *bufio.Scanner) {
	said := make(map[string]*bytes.Buffer) // by each test
	for lines.Scan() {
		var ev struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &ev) != nil {
			fmt.Println(lines.Text()) // of the go command itself
			continue
		}
		top, _, part := strings.Cut(ev.Test, "/")
		if said[top] == nil {
			said[top] = new(bytes.Buffer)
		}
		said[top].WriteString(ev.Output)
		if m := total.FindStringSubmatch(ev.Output); m != nil {
			operations, _ := strconv.Atoi(m[1]) // they are digits
			violations, _ := strconv.Atoi(m[2])
			r.operations, r.violations = r.operations+operations, r.violations+violations
		}
		if ev.Test == "" || part {
			continue
		}
		switch ev.Action {
		case "pass":
			r.passed++
		case "skip":
			r.skipped++
			fmt.Print(said[top])
		case "fail":
			r.failed++
			fmt.Print(said[top])
		}
	}
}

// programs returns a version, built or unpacked.
func programs(ctx context.Context, version string) (etcdproc.Programs, error) {
	if version == "debian" {
		return debian(ctx)
	}
	return etcdproc.Build(ctx, version, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
}

// debian unpacks etcd of the Debian release that this machine runs. It is not installed,
// as that would start a service.
func debian(ctx context.Context) (etcdproc.Programs, error) {
	dir, err := etcdproc.Dir("debian")
	if err != nil {
		return etcdproc.Programs{}, err
	}
	etcd := filepath.Join(dir, "usr/bin/etcd")
	if p, err := etcdproc.Found(ctx, etcd); err == nil {
		return p, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return etcdproc.Programs{}, err
	}
	const script = "apt-get download -qq etcd-server etcd-client && for p in *.deb; do dpkg -x $p . && rm $p; done"
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return etcdproc.Programs{}, fmt.Errorf("unpack etcd of Debian: %w\n%s", err, out)
	}
	return etcdproc.Found(ctx, etcd)
}
