package main

import (
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// bucket is one answer to the question where processor time went.
type bucket string

const (
	inLibrary  bucket = "the lock's library" // etcdlock, or etcd's concurrency
	inClient   bucket = "etcd's client"
	inGRPC     bucket = "gRPC and HTTP/2"
	inProtobuf bucket = "protobuf"
	inNetwork  bucket = "system calls: network"
	inSwitches bucket = "runtime: switches and wake-ups"
	inTimers   bucket = "runtime: timers"
	inMemory   bucket = "runtime: memory"
	inRequests bucket = "etcd: requests"
	inKeys     bucket = "etcd: keys and watches"
	inDatabase bucket = "etcd: database"
	inRaft     bucket = "etcd: raft and its log"
	inDisk     bucket = "system calls: disk"
	inBench    bucket = "benchmark and profiler"
	inOther    bucket = "other"
)

// buckets in the order of the tables, from the caller of a lock down to the server's disk.
var buckets = []bucket{
	inLibrary, inClient, inGRPC, inProtobuf, inNetwork, inSwitches, inTimers, inMemory,
	inRequests, inKeys, inDatabase, inRaft, inDisk, inBench, inOther,
}

// bucketOf returns the bucket of a sample. It walks the stack from the innermost function
// outwards, and the first known function decides. An unknown function, such as one of the
// standard library, works for its caller. Therefore
//
//   - every sample is in one bucket, and the buckets are all of the profile;
//   - work of the runtime counts as the runtime's, for any caller: an allocation in
//     protobuf is memory, the send to a channel in gRPC a switch. But copying, hashing and
//     comparing, which the runtime does too, are the caller's;
//   - switches are also the channels, locks and goroutines' starts that lead to them,
//     and a processor's search for work;
//   - a system call is the network's or the disk's, as the functions around it tell. On
//     the loopback what the kernel does for the receiver is in the sender's write.
func (b bucketRule) bucketOf(s *profile.Sample) bucket {
	var stack []string // innermost first
	for _, l := range s.Location {
		for _, line := range l.Line {
			if line.Function != nil {
				stack = append(stack, line.Function.Name)
			}
		}
	}
	for _, f := range stack {
		if found, ok := b.of(f); ok {
			if found == inSystemCall {
				return systemCall(stack)
			}
			return found
		}
	}
	return inOther
}

// bucketRule says what the functions are that begin with some text. The longest text counts.
type bucketRule map[bucket][]string

// inSystemCall is a system call; which one, the functions around it tell.
const inSystemCall bucket = "system call"

func (b bucketRule) of(function string) (bucket, bool) {
	var found bucket
	longest := 0
	for in, beginnings := range b {
		for _, text := range beginnings {
			if len(text) > longest && strings.HasPrefix(function, text) {
				found, longest = in, len(text)
			}
		}
	}
	return found, longest > 0
}

var bucketRules = bucketRule{
	inLibrary:  {"github.com/etcdlock/etcdlock", "go.etcd.io/etcd/client/v3/concurrency."},
	inClient:   {"go.etcd.io/etcd/client/v3"},
	inGRPC:     {"google.golang.org/grpc", "golang.org/x/net/", "net/http.", "net/http/internal"},
	inProtobuf: {"google.golang.org/protobuf", "github.com/golang/protobuf", "github.com/gogo/protobuf", "go.etcd.io/etcd/api/v3/", "go.etcd.io/raft/v3/raftpb.", "go.etcd.io/etcd/server/v3/storage/wal/walpb."},
	inRequests: {"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/pkg/v3"},
	inKeys:     {"go.etcd.io/etcd/server/v3/storage/mvcc", "go.etcd.io/etcd/server/v3/mvcc"},
	inDatabase: {"go.etcd.io/bbolt", "go.etcd.io/etcd/server/v3/storage/backend", "go.etcd.io/etcd/server/v3/mvcc/backend"},
	inRaft:     {"go.etcd.io/raft/v3", "go.etcd.io/etcd/raft/v3", "go.etcd.io/etcd/server/v3/storage/wal", "go.etcd.io/etcd/server/v3/wal", "go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp", "go.etcd.io/etcd/server/v3/etcdserver/api/snap"},
	inBench:    {"main.", "runtime/pprof.", "net/http/pprof."},
	inSwitches: {
		"runtime.futex", "runtime.note", "runtime.sema", "runtime.lock", "runtime.unlock",
		"runtime.schedule", "runtime.findRunnable", "runtime.stealWork", "runtime.runq", "runtime.globrunq", "runtime.netpoll",
		"runtime.park", "runtime.gopark", "runtime.goready", "runtime.ready", "runtime.goyield", "runtime.gosched", "runtime.Gosched", "runtime.goschedImpl",
		"runtime.wakep", "runtime.startm", "runtime.stopm", "runtime.mPark", "runtime.resetspinning", "runtime.execute", "runtime.gogo", "runtime.mcall", "runtime.mstart",
		"runtime.handoffp", "runtime.retake", "runtime.sysmon", "runtime.preempt", "runtime.asyncPreempt", "runtime.signalM", "runtime.injectglist", "runtime.acquirep", "runtime.releasep", "runtime.pidle", "runtime.mget", "runtime.mput", "runtime.checkRunqs", "runtime.checkIdle",
		"runtime.usleep", "runtime.osyield", "runtime.procyield",
		"runtime.newproc", "runtime.goexit0", "runtime.gdestroy", "runtime.gfget", "runtime.gfput",
		"runtime.chan", "runtime.send", "runtime.recv", "runtime.closechan", "runtime.select", "runtime.sellock", "runtime.selunlock", "runtime.acquireSudog", "runtime.releaseSudog",
		"runtime.semacquire", "runtime.semrelease", "runtime.(*semaRoot)", "runtime.(*waitq)", "runtime.notifyList", "runtime.readyWithTime", "internal/sync.runtime_", "sync.runtime_", "internal/poll.runtime_",
	},
	inTimers: {
		"runtime.(*timer)", "runtime.(*timers)", "runtime.timeSleep", "runtime.newTimer", "runtime.stopTimer", "runtime.resetTimer",
		"time.Sleep", "time.After", "time.NewTimer", "time.NewTicker", "time.(*Timer)", "time.(*Ticker)", "time.newTimer", "time.stopTimer", "time.resetTimer", "time.goFunc", "time.sendTime",
	},
	inMemory: {
		"runtime.malloc", "runtime.newobject", "runtime.newarray", "runtime.makeslice", "runtime.growslice", "runtime.gc", "runtime._GC", "runtime.bgsweep", "runtime.bgscavenge",
		"runtime.scan", "runtime.grey", "runtime.mark", "runtime.sweep", "runtime.wb", "runtime.bulkBarrier", "runtime.typedmem", "runtime.wbMove",
		"runtime.(*mheap)", "runtime.(*mcache)", "runtime.(*mcentral)", "runtime.(*mspan)", "runtime.(*gc", "runtime.(*sweep", "runtime.(*page", "runtime.(*scav", "runtime.(*lfstack)", "runtime.(*unwinder)",
		"runtime.newstack", "runtime.copystack", "runtime.morestack", "runtime.stackalloc", "runtime.stackfree", "runtime.stackcache", "runtime.stackpool", "runtime.malg", "runtime.shrinkstack", "runtime.adjust", "runtime.sysAlloc", "runtime.sysUsed", "runtime.sysUnused", "runtime.sysMap", "runtime.sysHugePage", "runtime.madvise", "runtime.mmap", "runtime.persistentalloc", "runtime.deductAssistCredit", "runtime.assist",
	},
	inSystemCall: {"syscall.Syscall", "syscall.RawSyscall", "syscall.rawSyscall", "internal/poll.", "net.", "os.(*File)", "os.(*file)"},
}

// systemCall is which kind of them a stack is in.
func systemCall(stack []string) bucket {
	within := func(beginnings ...string) bool {
		return slices.ContainsFunc(stack, func(f string) bool {
			return slices.ContainsFunc(beginnings, func(text string) bool { return strings.HasPrefix(f, text) })
		})
	}
	switch {
	case within("net."):
		return inNetwork
	case within("os.(*File)", "os.(*file)", "syscall.Fdatasync", "syscall.Fsync"):
		return inDisk
	}
	return inOther
}

// shares returns the processor time of profiles in each bucket, in nanoseconds, and the
// number of samples.
func shares(profiles []*profile.Profile) (in map[bucket]float64, total float64, samples int64) {
	in = map[bucket]float64{}
	for _, p := range profiles {
		at := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" })
		if at < 0 {
			continue
		}
		for _, s := range p.Sample {
			ns := float64(s.Value[at])
			in[bucketRules.bucketOf(s)] += ns
			total += ns
			if p.Period > 0 {
				samples += s.Value[at] / p.Period
			}
		}
	}
	return in, total, samples
}
