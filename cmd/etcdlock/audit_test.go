//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

// audited runs an audit until it has printed n events.
func audited(t *testing.T, n int, args ...string) []queues.Audited {
	t.Helper()
	p := start(t, append([]string{"audit", "-o", "json"}, args...)...)
	eventually(t, func() bool { return strings.Count(p.out.String(), "\n") >= n }, "the events")
	p.signal(sigterm)
	p.wait()
	return auditLines(t, p.out.String())
}

func auditLines(t *testing.T, out string) (events []queues.Audited) {
	t.Helper()
	for line := range strings.Lines(out) {
		var e queues.Audited
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		events = append(events, e)
	}
	return events
}

// brief is an event without what differs from run to run.
func brief(e queues.Audited) string {
	owner := ""
	if e.Entry != nil {
		owner = e.Entry.Owner + e.Entry.Value
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Event, owner, e.End, e.Reason))
}

func briefly(events []queues.Audited) (all []string) {
	for _, e := range events {
		all = append(all, brief(e))
	}
	return all
}

func TestAnAuditTellsGrantsAndEndsWithTheirReasons(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	from, err := dev.client.Get(t.Context(), name)
	require.NoError(t, err)
	s, short := newSession(t), newSession(t)
	lock := func() *etcdlock.Lock {
		l, err := etcdlock.NewMutex(s, name).Lock(t.Context())
		require.NoError(t, err)
		return l
	}
	read := func(s *etcdlock.Session) *etcdlock.ReadLock {
		l, err := etcdlock.NewRWMutex(s, name).RLock(t.Context())
		require.NoError(t, err)
		return l
	}
	l := lock()
	p := start(t, "audit", "-o", "json", name)
	events := 0
	sees := func(n int) {
		events += n
		eventually(t, func() bool { return strings.Count(p.out.String(), "\n") >= events }, "the events")
	}
	sees(1)
	require.NoError(t, l.Unlock(t.Context()))
	sees(1)
	evicted := lock()
	require.Zero(t, runToEnd(t, "evict", "--yes", "--reason", "hangs since 3:00", name).code)
	<-evicted.Done()
	require.ErrorIs(t, evicted.Err(), etcdlock.ErrEvicted)
	require.ErrorContains(t, evicted.Err(), "hangs since 3:00")
	sees(2)
	read(short)
	sees(1)
	second := read(s)
	sees(1) // and before, the audit has read the lease of the first reader
	require.NoError(t, short.Close(t.Context()))
	sees(1)
	require.NoError(t, second.Unlock(t.Context()))
	sees(1)
	p.signal(sigterm)
	p.wait()
	live := auditLines(t, p.out.String())
	require.Equal(t, []string{
		"granted the test", "ended the test key deleted",
		"granted the test", "ended the test evicted hangs since 3:00",
		"granted the test", "granted the test", "ended the test released or revoked", "ended the test key deleted",
	}, briefly(live))
	require.Zero(t, live[0].Time, "it was there before")
	for _, e := range live[1:] {
		require.WithinDuration(t, time.Now(), e.Time, time.Minute)
	}

	replayed := audited(t, 8, "--from", fmt.Sprint(from.Header.Revision+1), name)
	require.Equal(t, []string{
		"granted the test", "ended the test key deleted",
		"granted the test", "ended the test evicted hangs since 3:00",
		"granted the test", "granted the test", "ended the test not observed", "ended the test key deleted",
	}, briefly(replayed))
	require.Equal(t, replayed[0].Entry.CreateRevision, replayed[0].Revision)
	for i, e := range replayed {
		require.Zero(t, e.Time)
		require.True(t, i == 0 || live[i].Revision == e.Revision)
	}
	rest := audited(t, 2, "--from", fmt.Sprint(live[5].Revision+1), name)
	require.Equal(t, []string{"ended the test not observed", "ended the test key deleted"}, briefly(rest))
	require.Equal(t, exitFailure, runToEnd(t, "audit", "--from", fmt.Sprint(from.Header.Revision+1_000_000), name).code)

	resp, err := dev.client.Get(t.Context(), name+"\x00evicted/", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	require.NotZero(t, resp.Kvs[0].Lease, "it goes with its lease")
}

func TestAnAuditTellsLeadersAndVacancies(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	e := etcdlock.NewElection(newSession(t), name)
	term, err := e.Campaign(ctx, "host-a")
	require.NoError(t, err)
	p := start(t, "audit", "-o", "json", name, name+"-other")
	eventually(t, func() bool { return strings.Contains(p.out.String(), "host-a") }, "the present leader")
	require.NoError(t, term.Proclaim(ctx, "host-a:80"))
	require.NoError(t, term.Resign(ctx))
	eventually(t, func() bool { return strings.Contains(p.out.String(), "vacancy") }, "the vacancy")
	p.signal(sigterm)
	p.wait()
	events := auditLines(t, p.out.String())
	require.Equal(t, []string{"leader host-a", "leader host-a:80", "ended host-a:80 key deleted", "vacancy"}, briefly(events))
	require.Zero(t, events[0].Time, "it was there before")
	people := audited(t, 0, name)
	require.Empty(t, people)
}
