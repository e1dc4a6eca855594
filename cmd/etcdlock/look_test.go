//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/doctor"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// jsonOf runs a command with -o json.
func jsonOf[V any](t *testing.T, code int, args ...string) (v V) {
	t.Helper()
	p := runToEnd(t, append(args, "-o", "json")...)
	require.Equal(t, code, p.code, "%v: %s", args, &p.stderr)
	require.NoError(t, json.Unmarshal([]byte(p.out.String()), &v), "%s", &p.out)
	return v
}

// findings returns the checks with a finding of a level, for one prefix.
func findings(t *testing.T, code int, prefix string, level doctor.Level) (all []string) {
	t.Helper()
	for _, f := range jsonOf[[]doctor.Finding](t, code, "doctor", prefix) {
		if f.Level == level {
			all = append(all, f.What)
		}
	}
	return all
}

func TestOperatorsSeeAllKindsAndNothingOfOthers(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t) + "-"
	s, other := newSession(t), newSession(t)
	_, err := etcdlock.NewMutex(s, prefix+"lock").Lock(t.Context())
	require.NoError(t, err)
	waitBehind(t, prefix+"lock")
	_, err = etcdlock.NewElection(s, prefix+"election").Campaign(t.Context(), "host-a:80")
	require.NoError(t, err)
	_, err = etcdlock.NewSemaphore(s, prefix+"semaphore", 3).Acquire(t.Context(), 2)
	require.NoError(t, err)
	_, err = etcdlock.NewSemaphore(other, prefix+"semaphore", 3).Acquire(t.Context(), 1)
	require.NoError(t, err)
	_, err = etcdlock.NewRWMutex(s, prefix+"rw").RLock(t.Context())
	require.NoError(t, err)
	_, err = etcdlock.NewRWMutex(other, prefix+"rw").RLock(t.Context())
	require.NoError(t, err)
	// Keys of other programs, with a lease and without, also under possible names of locks.
	for _, key := range []string{"plain", "users/42", "users/abcdef"} {
		_, err = dev.client.Put(t.Context(), prefix+key, "not yours", clientv3.WithLease(s.Lease()))
		require.NoError(t, err)
	}

	found := make(map[string]queues.Queue)
	for _, q := range jsonOf[[]queues.Queue](t, 0, "ls", prefix) {
		found[strings.TrimPrefix(q.Name, prefix)] = q
	}
	require.Len(t, found, 4, "%v", found)
	for name, want := range map[string]struct {
		kind           queues.Kind
		holds, waiting int
	}{
		"lock": {queues.Lock, 1, 1}, "election": {queues.Election, 1, 0}, "semaphore": {queues.Semaphore, 2, 0}, "rw": {queues.RWLock, 2, 0},
	} {
		q := found[name]
		require.Equal(t, want.kind, q.Kind, name)
		require.Len(t, q.Holders(), want.holds, name)
		require.Len(t, q.Waiters(), want.waiting, name)
	}
	all := jsonOf[[]queues.Queue](t, 0, "ls")
	require.GreaterOrEqual(t, len(all), 4)

	people := runToEnd(t, "ls", prefix)
	require.Contains(t, people.out.String(), "host-a:80")
	require.Contains(t, people.out.String(), "semaphore 3/3")
	require.Contains(t, people.out.String(), "the test and 1 more")
	require.NotContains(t, people.out.String(), "not yours")
	require.NotContains(t, people.out.String(), "\x1b", "no colours but on a terminal")

	q := jsonOf[shown](t, 0, "show", prefix+"lock")
	require.Len(t, q.Entries, 2)
	require.Equal(t, "the test", q.Entries[0].Owner)
	require.EqualValues(t, 10, q.Entries[0].GrantedTTL)
	require.Positive(t, q.Entries[0].TTL)
	require.Equal(t, exitFailure, runToEnd(t, "show", prefix+"nobody").code)
	require.Equal(t, exitUsage, runToEnd(t, "ls", "-o", "xml").code)
}

// report E9
func TestLsAndShowTellSinceWhenAndOnWhichHostWhereThatIsKnown(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	leads := start(t, "elect", "--id", "host-a:80", name+"-e", "--", "sh", "-c", "echo in; exec sleep 60")
	leads.says("in")
	start(t, "elect", "--id", "host-b:80", name+"-e", "--", "true")
	holds := start(t, "lock", name+"-l", name+"-m", "--", "sh", "-c", "echo in; exec sleep 60")
	holds.says("in")
	host, err := os.Hostname()
	require.NoError(t, err)
	var q shown
	eventually(t, func() bool {
		q = jsonOf[shown](t, 0, "show", name+"-e")
		return len(q.Entries) == 2 && q.Entries[1].Host != "" && !q.Entries[0].Granted.IsZero()
	}, "it is told beside the queue")
	require.Equal(t, leads.cmd.Process.Pid, q.Entries[0].PID)
	require.Equal(t, host, q.Entries[0].Host)
	require.WithinDuration(t, time.Now(), q.Entries[0].Granted, long)
	require.False(t, q.Entries[0].Since.After(q.Entries[0].Granted))
	require.Zero(t, q.Entries[1].Granted, "it waits")
	for _, n := range []string{name + "-l", name + "-m"} {
		eventually(t, func() bool { return !jsonOf[shown](t, 0, "show", n).Entries[0].Granted.IsZero() }, "since when it holds")
	}
	ls := runToEnd(t, "ls", name).out.String()
	require.Regexp(t, `QUEUED +HELD +WAITING`, ls)
	require.Regexp(t, `-e +election +host-a:80 +`+host+` +\d+ +\d+ +\d+s +\d+s +1`, ls)

	// The next term has new times, and no note is left.
	lease := q.Entries[0].LeaseHex
	leads.signal(sigterm)
	leads.wait()
	holds.signal(sigterm)
	holds.wait()
	resp, err := dev.client.Get(t.Context(), name+"-e\x00", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	require.NoError(t, err)
	for _, kv := range resp.Kvs {
		require.NotContains(t, string(kv.Key), lease)
	}
	// A hold of a program that writes no note.
	_, err = etcdlock.NewMutex(newSession(t), name+"-l").Lock(t.Context())
	require.NoError(t, err)
	require.Zero(t, jsonOf[shown](t, 0, "show", name+"-l").Entries[0].Granted)
}

// report P15
func TestShowOfALongQueueIsShort(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	lease, err := dev.client.Grant(t.Context(), 120)
	require.NoError(t, err)
	for i := range 120 {
		_, err = dev.client.Put(t.Context(), fmt.Sprintf("%s/%x.%d", name, lease.ID, i), "", clientv3.WithLease(lease.ID))
		require.NoError(t, err)
	}
	out := runToEnd(t, "show", name).out.String()
	require.Equal(t, 53, strings.Count(out, "\n"), out)
	require.Contains(t, out, "and 70 more entries (--limit 0 shows all)")
	require.Equal(t, 122, strings.Count(runToEnd(t, "show", "--limit", "0", name).out.String(), "\n"))
	require.Len(t, jsonOf[shown](t, 0, "show", name).Entries, 120)
	_, err = dev.client.Revoke(t.Context(), lease.ID)
	require.NoError(t, err)
}

// Text of other clients must not reach the terminal unquoted.
func TestValuesOfOthersCannotChangeTheTerminal(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	_, err := etcdlock.NewElection(newSession(t), name).Campaign(t.Context(), "\x1b[2Jfooled\nyou")
	require.NoError(t, err)
	p := runToEnd(t, "ls", name)
	require.NotContains(t, p.out.String(), "\x1b")
	require.Contains(t, p.out.String(), `\x1b[2Jfooled\nyou`)
	require.Equal(t, 2, strings.Count(p.out.String(), "\n"))
}

func TestEvictAsksAndThenTakesOnlyTheOneThatItShowed(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	s := newSession(t)
	lock, err := etcdlock.NewMutex(s, name).Lock(t.Context())
	require.NoError(t, err)
	beside, err := etcdlock.NewMutex(s, name+"-beside").Lock(t.Context())
	require.NoError(t, err)
	granted := waitBehind(t, name)

	p := runToEnd(t, "evict", name)
	require.Equal(t, exitUsage, p.code, "no terminal to confirm it")
	require.Contains(t, p.stderr.String(), lock.Key())
	require.Contains(t, p.stderr.String(), "The next waiter, the test, can then hold at once")
	require.NoError(t, lock.Err())

	require.Zero(t, runToEnd(t, "evict", "--yes", name).code)
	receive(t, granted, "the grant to the next one")
	receive(t, lock.Done(), "the loss")
	require.ErrorIs(t, lock.Err(), etcdlock.ErrEvicted)
	require.NoError(t, beside.Err(), "the lease lives")

	inbox := wire.InboxKey(name+"-beside", s.Lease())
	_, err = dev.client.Put(t.Context(), inbox, "", clientv3.WithLease(s.Lease()))
	require.NoError(t, err)
	p = runToEnd(t, "evict", "--yes", "--revoke", name+"-beside")
	require.Zero(t, p.code, "%s", &p.stderr)
	require.NotContains(t, p.stderr.String(), "which deletes all", "an inbox is no key that a user knows of")
	receive(t, beside.Done(), "the loss")
	require.ErrorIs(t, beside.Err(), etcdlock.ErrRevoked)

	require.Equal(t, exitFailure, runToEnd(t, "evict", "--yes", name+"-nobody").code)
}

// A key without a lease belongs to no process that could be notified.
func TestEvictOfAKeyWithoutALeaseSpeaksOfNoProcess(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	key := name + "/stray"
	_, err := dev.client.Put(t.Context(), key, "")
	require.NoError(t, err)
	waitBehind(t, name)
	p := runToEnd(t, "evict", "--entry", key, name)
	require.Equal(t, exitUsage, p.code)
	require.Contains(t, p.stderr.String(), "The next waiter, the test, can then hold at once.")
	require.NotContains(t, p.stderr.String(), "notified")
	require.Zero(t, runToEnd(t, "evict", "--yes", "--entry", key, name).code)
}

func TestEvictNeedsToBeToldWhichOfSeveral(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	var keys []string
	var permits []*etcdlock.Permit
	for range 2 {
		p, err := etcdlock.NewSemaphore(newSession(t), name, 2).Acquire(t.Context(), 1)
		require.NoError(t, err)
		keys, permits = append(keys, p.Key()), append(permits, p)
	}
	require.Equal(t, exitUsage, runToEnd(t, "evict", "--yes", name).code)
	require.Zero(t, runToEnd(t, "evict", "--yes", "--entry", keys[1], name).code)
	receive(t, permits[1].Done(), "the loss")
	require.NoError(t, permits[0].Err())
}

func TestAskWaitsUntilTheCommandHasComeToAnEnd(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	p := start(t, "lock", "--on-ask", "USR1", name, "--", "sh", "-c",
		`trap 'echo asked; exit 9' USR1; echo ready; while :; do sleep 0.05; done`)
	p.says("ready")
	require.Zero(t, runToEnd(t, "ask", "--owner", "ops", "--reason", "deploying", name).code)
	require.Equal(t, 9, p.wait())
	require.Contains(t, p.output(), "asked")
	require.Contains(t, p.stderr.String(), "asked to release by ops (")
	nothingLeft(t, name)

	_, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	ask, _ := runInTime(t, "ask", "--timeout", soon, name)
	require.Equal(t, exitTimedOut, ask.code, "%s", &ask.stderr)
}

func TestWatchTellsEachChange(t *testing.T) {
	t.Parallel()
	name := nameOf(t)
	first, err := etcdlock.NewMutex(newSession(t), name).Lock(t.Context())
	require.NoError(t, err)
	p := start(t, "watch", "-o", "json", name)
	next := func() (what queues.What, key string) {
		var ch queues.Change
		require.NoError(t, json.Unmarshal([]byte(receive(t, p.lines, "a change")), &ch))
		return ch.What, ch.Entry.Key
	}
	what, key := next()
	require.Equal(t, queues.Granted, what)
	require.Equal(t, first.Key(), key)
	waitBehind(t, name)
	what, second := next()
	require.Equal(t, queues.LinedUp, what)
	require.NoError(t, first.Unlock(t.Context()))
	what, key = next()
	require.Equal(t, queues.Gone, what)
	require.Equal(t, first.Key(), key)
	what, key = next()
	require.Equal(t, queues.Granted, what)
	require.Equal(t, second, key)
	p.signal(sigterm)
	require.Equal(t, 128+15, p.wait())
}

// trap A14, trap A15
func TestDoctorFindsStrayKeysAndNestedNames(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t) + "-"
	s := newSession(t)
	_, err := etcdlock.NewMutex(s, prefix+"a").Lock(t.Context())
	require.NoError(t, err)
	require.Empty(t, findings(t, 0, prefix, doctor.Wrong))
	require.Empty(t, findings(t, 0, prefix, doctor.Doubtful))
	require.Empty(t, keysOf(t, prefix+"etcdlock-doctor"))

	_, err = dev.client.Put(t.Context(), prefix+"a/stray", "")
	require.NoError(t, err)
	require.Equal(t, []string{"stray key"}, findings(t, exitFailure, prefix, doctor.Wrong))
	require.Zero(t, runToEnd(t, "evict", "--yes", "--entry", prefix+"a/stray", prefix+"a").code)
	require.Empty(t, findings(t, 0, prefix, doctor.Wrong))

	other, err := dev.client.Grant(t.Context(), 120)
	require.NoError(t, err)
	_, err = dev.client.Put(t.Context(), prefix+"a/b/"+hexOf(other.ID), "", clientv3.WithLease(other.ID))
	require.NoError(t, err)
	require.Equal(t, []string{"nested names"}, findings(t, exitFailure, prefix, doctor.Wrong))
	require.Equal(t, []string{"TTL"}, findings(t, exitFailure, prefix, doctor.Doubtful), "two minutes are long")
	_, err = dev.client.Revoke(t.Context(), other.ID)
	require.NoError(t, err)
}

func TestLsReportsKeysWithoutALeaseWhereNoProcessWaits(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t)
	require.Empty(t, jsonOf[[]queues.Queue](t, 0, "ls", prefix))
	require.NotContains(t, runToEnd(t, "ls", prefix).stderr.String(), "not listed")
	for _, key := range []string{"invoices/old", "orders/old"} {
		_, err := dev.client.Put(t.Context(), prefix+key, "")
		require.NoError(t, err)
	}
	lease, err := dev.client.Grant(t.Context(), 120)
	require.NoError(t, err)
	_, err = dev.client.Put(t.Context(), prefix+"other/leased", "", clientv3.WithLease(lease.ID))
	require.NoError(t, err)

	p := runToEnd(t, "ls", prefix)
	require.Zero(t, p.code)
	require.Contains(t, p.stderr.String(), "not listed: 2 keys without a lease")
	require.Contains(t, p.stderr.String(), prefix+"invoices\" until")
	require.Contains(t, p.stderr.String(), "see etcdlock doctor "+prefix+"\n")
	require.NotContains(t, runToEnd(t, "ls", prefix+"other/").stderr.String(), "not listed")
	require.Contains(t, runToEnd(t, "show", prefix+"nobody").out.String(), "  free, at revision ")
	_, err = dev.client.Revoke(t.Context(), lease.ID)
	require.NoError(t, err)
	_, err = dev.client.Delete(t.Context(), prefix, clientv3.WithPrefix())
	require.NoError(t, err)
}

// Without a prefix only keys in the form of a queue entry are found: any other key may belong to a
// program that uses no lock.
func TestDoctorWithoutAPrefixFindsStrayKeysWhereNoProcessWaits(t *testing.T) {
	endpoint, stop, err := serveDev()
	require.NoError(t, err)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	require.NoError(t, err)
	defer client.Close()
	lease, err := client.Grant(t.Context(), 600)
	require.NoError(t, err)
	_, err = client.Put(t.Context(), "leased/"+hexOf(lease.ID), "", clientv3.WithLease(lease.ID))
	require.NoError(t, err)
	for _, key := range []string{"config/old", "users/abcdef", "jobs/nightly/37e4a1ff0049b805", "jobs/weekly/37e4a1ff0049b805.2"} {
		_, err = client.Put(t.Context(), key, "x")
		require.NoError(t, err)
	}
	p := startOn(t, endpoint, "doctor", "-o", "json")
	require.Zero(t, p.wait(), "%s", &p.stderr)
	var found []doctor.Finding
	require.NoError(t, json.Unmarshal([]byte(p.output()), &found))
	var stray []string
	for _, f := range found {
		if f.What == "stray key" {
			require.Equal(t, doctor.Doubtful, f.Level)
			stray = append(stray, f.Text)
		}
	}
	require.Len(t, stray, 2, "%v", stray)
	require.Contains(t, stray[0], `etcdlock evict --entry "jobs/nightly/37e4a1ff0049b805" "jobs/nightly"`)
	require.Contains(t, stray[1], `etcdlock evict --entry "jobs/weekly/37e4a1ff0049b805.2" "jobs/weekly"`)

	require.Zero(t, startOn(t, endpoint, "evict", "--yes", "--entry", "jobs/nightly/37e4a1ff0049b805", "jobs/nightly").wait())
	p = startOn(t, endpoint, "doctor", "jobs/")
	require.Equal(t, exitFailure, p.wait(), "with a prefix it is certain")
	require.NotContains(t, p.output(), "nightly")
	require.Contains(t, p.out.String(), "jobs/weekly")
}

func TestDoctorReportsAHolderThatDoesNotRenewAndAMemberThatIsAway(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t) + "-"
	dying, err := dev.client.Grant(t.Context(), 30)
	require.NoError(t, err)
	_, err = dev.client.Put(t.Context(), prefix+"a/"+hexOf(dying.ID), "", clientv3.WithLease(dying.ID))
	require.NoError(t, err)
	eventually(t, func() bool {
		ttl, err := dev.client.TimeToLive(t.Context(), dying.ID)
		return err == nil && ttl.TTL < ttl.GrantedTTL/2
	}, "more than half of it is over")
	require.Equal(t, []string{"renewal"}, findings(t, 0, prefix, doctor.Doubtful))

	p := runToEnd(t, "doctor", "--command-timeout", "5s", "--endpoints", dev.endpoint+",127.0.0.1:1", prefix)
	require.Equal(t, exitFailure, p.code)
	require.Regexp(t, `FAIL +member +127.0.0.1:1`, p.out.String())
}

func TestDeadlocksAreFound(t *testing.T) {
	t.Parallel()
	prefix := nameOf(t) + "-"
	require.Zero(t, runToEnd(t, "deadlocks", prefix).code)
	one, two := newSession(t), newSession(t)
	a, err := etcdlock.NewMutex(one, prefix+"a").Lock(t.Context())
	require.NoError(t, err)
	b, err := etcdlock.NewMutex(two, prefix+"b").Lock(t.Context())
	require.NoError(t, err)
	go func() { _, _ = etcdlock.NewMutex(one, prefix+"b").Lock(a.Context()) }()
	go func() { _, _ = etcdlock.NewMutex(two, prefix+"a").Lock(b.Context()) }()
	eventually(t, func() bool { return len(keysOf(t, prefix)) == 4 }, "both wait")
	found := jsonOf[[][]waitLink](t, exitFailure, "deadlocks", prefix)
	require.Len(t, found, 1)
	require.Len(t, found[0], 2)
	require.Contains(t, findings(t, exitFailure, prefix, doctor.Wrong), "deadlock")
}
