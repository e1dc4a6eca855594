//go:build linux

package main

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/text"
)

// report P8
func TestCompletionHelpAndVersionWork(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"completion bash": "__start_etcdlock", "completion zsh": "#compdef etcdlock", "completion fish": "complete -c etcdlock", "completion powershell": "Register-ArgumentCompleter",
		"help": "Available Commands:", "help lock": "--timeout", "help elect": "--observe", "lock --help": "--timeout", "version": "etcdlock version", "--version": "etcdlock version",
		"__complete lo": "lock\t", "__complete show --out": "--output", "__complete ls --output ": "json", "__completeNoDesc lo": "lock\n",
	} {
		p := runToEnd(t, strings.Split(args, " ")...)
		require.Zero(t, p.code, "%s: %s", args, &p.stderr)
		require.Contains(t, p.out.String(), says, args)
	}
}

// report P10
func TestWhateverIsWrongWithFlagsAndArgumentsIsTwo(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	inner, err := etcdlock.NewMutex(newSession(t), name+"/inner").Lock(t.Context())
	require.NoError(t, err)
	_, err = etcdlock.NewSemaphore(newSession(t), name+"-s", 5).Acquire(t.Context(), 1)
	require.NoError(t, err)
	for _, args := range []string{
		"frobnicate", "lock", "lock a", "lock a --", "lock --try --timeout 1 a -- true", "lock --shared --permits 1/2 a -- true", "lock --ttl soon a -- true",
		"elect", "elect a b -- true", "elect --observe", "elect --observe a b", "elect --observe a -- true", "elect --try a -- true", "elect --observe a/",
		"show", "show a b", "ls a b", "watch", "watch a b", "evict", "evict a b", "ask", "ask a b", "doctor a b", "deadlocks a b", "serve-dev a", "version a",
		"completion bash zsh", "man", "ls -o xml", "show -o xml a", "ls --nonsense", "ask a/", "ask /a/ --timeout 1", "lock a a -- true", "lock a a/b -- true",
		"ls --endpoints ,", "lock --permits 3/2 a -- true", "lock --permits 0/2 a -- true", "lock --permits 1/7 " + name + "-s -- true",
		"lock " + name + " -- true", "lock --try " + name + " -- true", "lock " + name + " " + name + "-b -- true", "show --limit -1 a",
	} {
		p := runToEnd(t, strings.Split(args, " ")...)
		require.Equal(t, exitUsage, p.code, "%s: %s", args, &p.stderr)
		require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s: %s", args, &p.stderr)
	}
	require.NoError(t, inner.Err())
	require.Contains(t, runToEnd(t, "lock", "/a/", "--", "true").stderr.String(), "--foreign-names")

	help := runToEnd(t, "elect", "--help").out.String()
	require.NotContains(t, help, "--try,")
	require.NotContains(t, help, "--timeout,")
	require.Contains(t, help, "102  the lock was lost")
	require.Contains(t, runToEnd(t, "lock", "--help").out.String(), "100  with --try: the lock is taken")
}

// report P7
func TestEndpointsAreTrimmed(t *testing.T) {
	t.Parallel()
	for _, endpoints := range []string{" " + dev.endpoint, dev.endpoint + "\n", " " + dev.endpoint + " , ", "\t" + dev.endpoint + ", " + dev.endpoint} {
		p := startOn(t, endpoints, "ls", nameOf(t))
		require.Zero(t, p.wait(), "%q: %s", endpoints, &p.stderr)
		p = runToEnd(t, "ls", "--endpoints", endpoints, nameOf(t))
		require.Zero(t, p.code, "%q: %s", endpoints, &p.stderr)
	}
}

// report P9
func TestTheTimeoutIsKeptWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and does not answer
	require.NoError(t, err)
	defer nobody.Close()
	for _, c := range []struct {
		timeout, command string
		atLeast          time.Duration
	}{{"1", "1h", time.Second}, {"3s", "100ms", 3 * time.Second}} { // --command-timeout does not count, whether longer or shorter
		flags := []string{"--timeout", c.timeout, "--command-timeout", c.command, "a"}
		for _, args := range [][]string{append([]string{"ask"}, flags...), append(append([]string{"lock"}, flags...), "--", "true")} {
			t.Run(args[0]+c.timeout, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				p := startOn(t, nobody.Addr().String(), args...)
				require.Equal(t, exitUnreachable, p.wait(), "%s", &p.stderr)
				require.GreaterOrEqual(t, time.Since(began), c.atLeast)
				require.Contains(t, p.stderr.String(), "(--timeout)")
			})
		}
	}
}

// report P15
func TestFlagsTakeSecondsAndEvictSaysWhyItDoesNothing(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--ttl", "12", name, "--", "sh", "-c", `echo in; read go < `+fifo(t))
	p.says("in")
	require.EqualValues(t, 12, jsonOf[shown](t, 0, "show", name).Entries[0].GrantedTTL)
	for seconds := 1; ; seconds *= 4 { // until it reaches etcd in time
		code := runToEnd(t, "lock", "--timeout", strconv.Itoa(seconds), name, "--", "true").code
		if code == exitUnreachable && seconds < 60 {
			continue
		}
		require.Equal(t, exitTimedOut, code)
		break
	}
	evict := runToEnd(t, "evict", name)
	require.Equal(t, exitUsage, evict.code)
	require.Contains(t, evict.stderr.String(), "nothing was done")
	require.Contains(t, evict.stderr.String(), "--yes")
	openFifo(t)
	require.Zero(t, p.wait())
	wrong := runToEnd(t, "lock", "--ttl", "10x", name, "--", "true")
	require.Contains(t, wrong.stderr.String(), "seconds, such as 10")
}

// report L7
func TestNamesThatAreNotUTF8CanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t)
	name := prefix + "\xff\n"
	lock, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	out := runToEnd(t, "ls", "-o", "json", prefix).out.String()
	var raw []struct{ Name string }
	require.NoError(t, json.Unmarshal([]byte(out), &raw))
	require.Len(t, raw, 1)
	require.NotContains(t, raw[0].Name, "�")
	require.Equal(t, name, text.FromArg(raw[0].Name))
	for _, arg := range []string{raw[0].Name, name, strings.Fields(strings.Split(runToEnd(t, "ls", prefix).out.String(), "\n")[1])[0]} {
		s := jsonOf[shown](t, 0, "show", arg)
		require.Equal(t, lock.Key(), text.FromArg(s.Entries[0].Key))
		require.Equal(t, name, text.FromArg(s.Name))
	}
	rawKey := struct{ Entries []struct{ Key string } }{}
	require.NoError(t, json.Unmarshal([]byte(runToEnd(t, "show", "-o", "json", name).out.String()), &rawKey))
	require.Zero(t, runToEnd(t, "evict", "--yes", "--entry", rawKey.Entries[0].Key, raw[0].Name).code)
	receive(t, lock.Done(), "the loss")
}
