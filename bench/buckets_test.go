package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

// synthetic is a profile of stacks, each innermost first, with 10 ms in each.
func synthetic(stacks ...[]string) *profile.Profile {
	const period = int64(10 * time.Millisecond)
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:     period,
	}
	for _, stack := range stacks {
		s := &profile.Sample{Value: []int64{1, period}}
		for _, name := range stack {
			f := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name}
			l := &profile.Location{ID: f.ID, Line: []profile.Line{{Function: f}}}
			p.Function, p.Location, s.Location = append(p.Function, f), append(p.Location, l), append(s.Location, l)
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

func TestInnermostFunctionThatIsKnownDecides(t *testing.T) {
	const syscall6 = "internal/runtime/syscall/linux.Syscall6"
	for _, c := range []struct {
		want  bucket
		stack string // innermost first
	}{
		{inLibrary, "github.com/etcdlock/etcdlock.(*line).serve runtime.goexit"},
		{inLibrary, "runtime.memmove strings.(*Builder).grow github.com/etcdlock/etcdlock/internal/wire.Holder.Encode main.lockMutex.lock"},
		{inLibrary, "go.etcd.io/etcd/client/v3/concurrency.(*Mutex).tryAcquire main.(*caller).run"},
		{inClient, "go.etcd.io/etcd/client/v3.(*kv).Do go.etcd.io/etcd/client/v3/concurrency.waitDelete"},
		{inGRPC, "runtime.mapaccess1_faststr golang.org/x/net/http2/hpack.(*Encoder).WriteField google.golang.org/grpc.(*clientStream).SendMsg"},
		{inProtobuf, "google.golang.org/protobuf/proto.Marshal google.golang.org/grpc/encoding/proto.(*codecV2).Marshal"},
		{inProtobuf, "go.etcd.io/raft/v3/raftpb.(*Entry).GetIndex go.etcd.io/raft/v3.(*raft).Step"},
		// The work of the runtime is the runtime's, for any caller.
		{inMemory, "runtime.nextFreeFast runtime.mallocgcSmallNoscan runtime.mallocgc google.golang.org/protobuf/proto.Unmarshal"},
		{inMemory, "runtime.scanobject runtime.gcDrain runtime.gcBgMarkWorker.func2 runtime.systemstack runtime.gcBgMarkWorker runtime.goexit"},
		{inMemory, "runtime.adjustframe runtime.copystack runtime.newstack runtime.morestack github.com/etcdlock/etcdlock.(*line).serve"},
		{inSwitches, "runtime.futex runtime.futexwakeup runtime.notewakeup runtime.startm runtime.wakep runtime.ready runtime.goready.func1 runtime.systemstack runtime.goready runtime.send runtime.chansend github.com/etcdlock/etcdlock.(*line).wake"},
		{inSwitches, syscall6 + " internal/runtime/syscall/linux.EpollWait runtime.netpoll runtime.findRunnable runtime.schedule runtime.park_m runtime.mcall"},
		{inTimers, "runtime.(*timers).siftDown runtime.(*timers).run runtime.(*timers).check runtime.findRunnable runtime.schedule"},
		// Which system call it is, the functions around it tell.
		{inNetwork, syscall6 + " syscall.RawSyscall6 syscall.Syscall syscall.write syscall.Write internal/poll.(*FD).Write net.(*netFD).Write net.(*conn).Write google.golang.org/grpc/internal/transport.(*bufWriter).Flush"},
		{inDisk, syscall6 + " syscall.RawSyscall6 syscall.Syscall syscall.Fdatasync go.etcd.io/etcd/client/pkg/v3/fileutil.Fdatasync go.etcd.io/etcd/server/v3/storage/wal.(*WAL).sync"},
		{inDisk, syscall6 + " syscall.RawSyscall6 syscall.Syscall6 syscall.pwrite syscall.Pwrite internal/poll.(*FD).Pwrite os.(*File).WriteAt go.etcd.io/bbolt.(*Tx).write"},
		{inDisk, syscall6 + " syscall.RawSyscall6 syscall.Syscall syscall.write syscall.Write internal/poll.(*FD).Write os.(*File).Write go.etcd.io/etcd/pkg/v3/ioutil.(*PageWriter).Flush"},
		{inOther, syscall6 + " syscall.RawSyscall syscall.Getpid main.main"},
		// A server's packages, of which the longest name counts.
		{inRequests, "strings.genSplit os.Getenv go.etcd.io/etcd/server/v3/etcdserver.(*EtcdServer).Txn"},
		{inKeys, "github.com/google/btree.(*node).get go.etcd.io/etcd/server/v3/storage/mvcc.(*treeIndex).Get go.etcd.io/etcd/server/v3/etcdserver/txn.txn"},
		{inDatabase, "go.etcd.io/etcd/server/v3/storage/backend.(*backend).begin go.etcd.io/etcd/server/v3/storage/mvcc.(*store).Commit"},
		{inRaft, "hash/crc32.Update go.etcd.io/etcd/server/v3/storage/wal.(*encoder).encode go.etcd.io/etcd/server/v3/storage.(*storage).Save"},
		{inBench, "main.sharedClock.now main.(*caller).run"},
		{inBench, "compress/flate.(*compressor).deflate runtime/pprof.profileWriter"},
		{inOther, "runtime.nanotime1"},
		{inOther, "runtime.memmove runtime.goexit"},
	} {
		p := synthetic(strings.Fields(c.stack))
		require.Equal(t, c.want, bucketRules.bucketOf(p.Sample[0]), c.stack)
	}
	require.Equal(t, inOther, bucketRules.bucketOf(&profile.Sample{}))
}

// A function that the compiler has inlined is further in than the one it is in.
func TestInlinedFunctionIsInnermost(t *testing.T) {
	p := synthetic([]string{"google.golang.org/grpc.send"})
	inlined := &profile.Function{ID: 2, Name: "google.golang.org/protobuf/proto.Size"}
	l := p.Location[0]
	l.Line = append([]profile.Line{{Function: inlined}}, l.Line...)
	require.Equal(t, inProtobuf, bucketRules.bucketOf(p.Sample[0]))
}

func TestRulesDoNotContradictEachOther(t *testing.T) {
	owner := map[string]bucket{}
	for in, beginnings := range bucketRules {
		if in != inSystemCall {
			require.Contains(t, buckets, in)
		}
		for _, text := range beginnings {
			require.Empty(t, owner[text], text)
			owner[text] = in
		}
	}
}

// The whole profile is in the table: the buckets are all of it, and their
// microseconds are those of the processes' clocks.
func TestBucketsAreAllOfTheProcessorTime(t *testing.T) {
	clients := usage{processor: 80 * time.Millisecond, profiles: []*profile.Profile{
		synthetic([]string{"runtime.futex"}, []string{"no.such/package.F"}),
		synthetic([]string{"runtime.futex"}, []string{"github.com/etcdlock/etcdlock.(*Lock).Unlock"}),
	}}
	in, total, samples := shares(clients.profiles)
	require.InDelta(t, float64(40*time.Millisecond), total, 1)
	require.Equal(t, int64(4), samples)
	var sum float64
	for _, b := range buckets {
		sum += in[b]
	}
	require.InDelta(t, total, sum, 1)

	var out strings.Builder
	writeUsages(&out, []*profiled{{spot: spot{Suite: "s", Case: "c", Nodes: 1, Contestant: theLibrary}, acts: 100, lasted: time.Second, clients: clients}})
	text := strings.Join(strings.Fields(out.String()), " ")
	require.Contains(t, text, "100 acts in 1.0 s; 0.08 s of processor time (4 samples, too few to tell) in the clients")
	for _, row := range []string{
		"| " + string(inSwitches) + " | 400.0 (50.0 %) | |",
		"| " + string(inLibrary) + " | 200.0 (25.0 %) | |",
		"| " + string(inOther) + " | 200.0 (25.0 %) | |",
		"| all | 800.0 (100.0 %) | |",
	} {
		require.Contains(t, text, row)
	}
}
