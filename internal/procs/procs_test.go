//go:build unix

package procs

import (
	"bufio"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatAProcessStartedEndsWithIt(t *testing.T) {
	for what, c := range map[string]struct {
		script string
		end    func(*Children, *Child)
	}{
		"killed": {"sleep 100 & echo; wait", func(_ *Children, p *Child) { p.Kill() }},
		"stopped, then killed": {"sleep 100 & echo; wait", func(_ *Children, p *Child) {
			_ = p.Signal(syscall.SIGSTOP)
			p.Kill()
		}},
		"ended by itself, then killed": {"sleep 100 & echo", func(_ *Children, p *Child) {
			_ = p.Err()
			p.Kill()
		}},
		"asked to end":            {"sleep 100 & echo; wait", func(_ *Children, p *Child) { p.End(syscall.SIGTERM, time.Minute) }},
		"deaf, at the end of all": {"trap '' TERM; sleep 100 & echo; wait", func(kids *Children, _ *Child) { kids.EndAll() }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var kids Children
			p, stdin, stdout, err := kids.Talk(exec.Command("sh", "-c", c.script))
			require.NoError(t, err)
			defer stdin.Close()
			defer stdout.Close()
			out := bufio.NewReader(stdout)
			_, err = out.ReadString('\n') // both run
			require.NoError(t, err)
			c.end(&kids, p)
			// The output ends with the last process that has it.
			over := make(chan error, 1)
			go func() { _, err := out.ReadByte(); over <- err }()
			select {
			case err := <-over:
				require.ErrorIs(t, err, io.EOF)
			case <-time.After(time.Minute):
				require.FailNow(t, "what it started still runs")
			}
		})
	}
}

func TestTheLastWordIsReadAfterTheEnd(t *testing.T) {
	var kids Children
	p, stdin, stdout, err := kids.Talk(exec.Command("sh", "-c", "read word; echo $word"))
	require.NoError(t, err)
	defer stdout.Close()
	_, err = stdin.Write([]byte("farewell\n"))
	require.NoError(t, err)
	require.NoError(t, p.Err())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "farewell\n", line)
}
