//go:build linux

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/doctor"
)

// reports P11, P13
func TestAWaitNamesItsPlaceAndTheHolder(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	first, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	waitBehind(t, name)
	p := start(t, "lock", "-v", name, "--", "true")
	eventually(t, func() bool {
		return strings.Contains(p.stderr.String(), `: place 2 in the queue, held by "the test" on `)
	}, "it says where it is")
	var quiet *process
	for within := time.Second; ; within *= 4 { // until it reads the holder in time
		quiet = runToEnd(t, "lock", "--timeout", within.String(), name, "--", "true")
		if strings.Contains(quiet.stderr.String(), "locked by another holder: ") || within > long {
			break
		}
	}
	require.Equal(t, exitTimedOut, quiet.code)
	require.Equal(t, 1, strings.Count(quiet.stderr.String(), "\n"), "nothing but the end: %s", &quiet.stderr)
	require.Contains(t, quiet.stderr.String(), "locked by another holder: ")
	require.NoError(t, first.Unlock(t.Context()))
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), ": place 1 in the queue") }, "and that it comes forward")
	p.signal(sigterm)
	require.Equal(t, 128+15, p.wait())

	led := name + "-led"
	_, err = etcdlock.NewElection(newSession(t), led).Campaign(t.Context(), "host-a")
	require.NoError(t, err)
	e := start(t, "elect", "-v", led, "--", "true")
	eventually(t, func() bool { return strings.Contains(e.stderr.String(), `: place 1 in the queue, led by "host-a"`) }, "a candidate, too")
}

// report P11
func TestATakeWithinItselfSaysThatItWaitsForItself(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", name, "--", os.Args[0], "lock", name+"-other", "--", os.Args[0], "lock", name, "--", "true")
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), nestedHint) }, "the hint")
	p.signal(sigterm)
	p.wait()
	p = runToEnd(t, "lock", name+"-try", "--", os.Args[0], "lock", "--try", name+"-try", "--", "true")
	require.Equal(t, exitBusy, p.code)
	require.Contains(t, p.stderr.String(), nestedHint)
}

// report P13
func TestAStrayKeyIsNamedWhileWaitingAndByDoctorWithoutAWaiter(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	key := name + "/state"
	_, err := dev.client.Put(t.Context(), key, "x")
	require.NoError(t, err)
	_, err = dev.client.Put(t.Context(), name+"-elsewhere", "not in a queue")
	require.NoError(t, err)
	p := start(t, "lock", name, "--", "true")
	eventually(t, func() bool { return strings.Contains(p.stderr.String(), `the key "`+key+`" has no lease`) }, "the wait names the key")
	p.signal(sigterm)
	p.wait()
	nothingLeft(t, name+"/"+"6") // no key of a lease: the first hexadecimal digit of all leases is 6
	try := runToEnd(t, "lock", "--try", name, "--", "true")
	require.Equal(t, exitBusy, try.code)
	require.Contains(t, try.stderr.String(), key)

	require.Equal(t, []string{"stray key"}, findings(t, exitFailure, name, doctor.Wrong))
	require.Zero(t, runToEnd(t, "evict", "--yes", "--entry", key, name).code)
	require.Empty(t, findings(t, 0, name, doctor.Wrong))
}

// report P12
func TestAFailingHealthCheckIsToldWhenItChanges(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	dir := t.TempDir()
	well, checks := dir+"/well", dir+"/checks"
	p := start(t, "elect", "--health", "echo >> "+checks+"; echo no database >&2; test -e "+well, "--health-interval", "2s", "--health-failures", "2", name, "--", "sh", "-c", "echo leads; exec sleep 60")
	count := func(text string) int { return strings.Count(p.stderr.String(), text) }
	eventually(t, func() bool { return count("until --health succeeds") > 0 }, "it does not take part")
	require.Contains(t, p.stderr.String(), "no database")
	require.NoError(t, os.WriteFile(well, nil, 0o600))
	p.says("leads")
	checked := func() int64 {
		info, err := os.Stat(checks)
		require.NoError(t, err)
		return info.Size()
	}
	before := checked()
	eventually(t, func() bool { return checked() >= before+3 }, "two checks more, of which the first may have begun before")
	// On a busy machine a single check may take too long, which is printed too.
	eventually(t, func() bool {
		return count("--health succeeds again") == count("--health has failed once, and counts after")
	}, "each change is told once")
	require.Equal(t, 1, count("until --health succeeds"), "once, and not with each check: %s", &p.stderr)
}
