package etcdlock

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// Wire is a world in which everything that is written to etcd is recorded.
type Wire struct {
	*world
	files string      // directory of lease files
	over  atomic.Bool // true when nothing is recorded any more

	mu     sync.Mutex
	lines  []string
	leases []*wireLease // in the order of their grants
	sent   []*sentWrite
}

// A wireLease is a lease as it was last seen.
type wireLease struct {
	id     clientv3.LeaseID
	expiry time.Time
	ended  bool
}

// A sentWrite is a request that may change something.
type sentWrite struct {
	client string
	rev    int64 // revision at which it took effect, 0 if it has not
	ops    []guardedOp
	ttl    int64            // of a grant
	revoke clientv3.LeaseID // the lease that is revoked
}

// A guardedOp is one operation of a transaction, with all comparisons that it depends on.
type guardedOp struct {
	op     *pb.RequestOp
	guards []*pb.Compare
}

// firstRevision is that of the first write of a scenario. A number of this size in a value is a revision.
const firstRevision = 7_000_001

// RecordWire runs a scenario and returns what it wrote to etcd.
func RecordWire(t *testing.T, scenario func(w *Wire)) (transcript string) {
	t.Helper()
	files := t.TempDir()
	simulateWith(t, simetcd.Config{Seed: 1, Reproducible: true}, func(world *world) {
		world.Stop()
		world.Restore(nil, simetcd.Restored{BumpRevision: firstRevision - 2})
		world.Start()
		w := &Wire{world: world, files: files}
		w.OnEvent(w.changed)
		w.Intercept(w.asked)
		scenario(w)
		w.pass(time.Second)
		w.lookAtLeases()
		w.Intercept(nil)
		w.over.Store(true)
		transcript = strings.Join(w.lines, "\n")
		w.closeSessions()
		w.pass(5 * time.Minute) // leases of sessions that were cut off expire
		require.Empty(w, w.Keys(""))
		require.Empty(w, w.Leases())
	})
	return transcript
}

// say adds a line.
func (w *Wire) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

// Step says what the scenario does next.
func (w *Wire) Step(what string) {
	w.pass(100 * time.Millisecond)
	w.say("-- %s", what)
}

// unlock releases something, and waits until nothing of it is under way any more.
func (w *Wire) unlock(unlock func(context.Context) error) {
	w.Helper()
	w.world.unlock(unlock)
	w.pass(100 * time.Millisecond)
}

// revokes is what an administrator does.
func (w *Wire) revokes(id clientv3.LeaseID) {
	w.takeNote(&sentWrite{client: "an administrator", revoke: id})
	w.RevokeLease(id)
	w.lookAtLeases()
}

// asked takes note of a request.
func (w *Wire) asked(c simetcd.Call) simetcd.Action {
	w.lookAtLeases()
	sent := &sentWrite{client: c.Client}
	switch req := c.Req.(type) {
	case *pb.LeaseGrantRequest:
		sent.ttl = req.TTL
	case *pb.LeaseRevokeRequest:
		sent.revoke = clientv3.LeaseID(req.ID)
	case *pb.PutRequest:
		sent.ops = []guardedOp{{op: &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}}}}
	case *pb.DeleteRangeRequest:
		sent.ops = []guardedOp{{op: &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}}}}
	case *pb.TxnRequest:
		sent.add(req, nil)
	}
	w.takeNote(sent)
	return simetcd.Action{}
}

func (w *Wire) takeNote(sent *sentWrite) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, sent)
}

// add adds the operations of a transaction. Nothing is written in an else branch.
func (s *sentWrite) add(txn *pb.TxnRequest, outer []*pb.Compare) {
	guards := slices.Concat(outer, txn.Compare)
	for _, op := range txn.Success {
		if inner := op.GetRequestTxn(); inner != nil {
			s.add(inner, guards)
			continue
		}
		s.ops = append(s.ops, guardedOp{op, guards})
	}
}

// lookAtLeases records which leases were granted, and have ended, since the last look.
func (w *Wire) lookAtLeases() {
	now, expiries := time.Now(), map[clientv3.LeaseID]time.Time{}
	for _, id := range w.Leases() {
		expiries[id] = w.LeaseExpiry(id)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.leases {
		expiry, alive := expiries[l.id]
		delete(expiries, l.id)
		switch {
		case alive:
			l.expiry = expiry
		case l.ended:
		case now.Before(l.expiry):
			by := w.last(func(s *sentWrite) bool { return s.revoke == l.id })
			w.lines = append(w.lines, fmt.Sprintf("%s: revoke lease <L%d>", by.client, i+1))
		default:
			w.lines = append(w.lines, fmt.Sprintf("lease <L%d> expires", i+1))
		}
		l.ended = !alive
	}
	if len(expiries) > 1 {
		panic("two leases were granted at once: which is which is up to chance")
	}
	for id, expiry := range expiries {
		w.leases = append(w.leases, &wireLease{id: id, expiry: expiry})
		by := w.last(func(s *sentWrite) bool { return s.ttl > 0 })
		w.lines = append(w.lines, fmt.Sprintf("%s: grant lease <L%d> of %d s", by.client, len(w.leases), by.ttl))
	}
}

// last is the last request of some kind. Called with mu held.
func (w *Wire) last(is func(*sentWrite) bool) *sentWrite {
	for _, s := range slices.Backward(w.sent) {
		if is(s) {
			return s
		}
	}
	panic("nobody has asked for that")
}

// changed records a change in etcd.
func (w *Wire) changed(rev int64, ev *mvccpb.Event) {
	if w.over.Load() {
		return
	}
	w.lookAtLeases()
	by, guards := w.cause(rev, ev)
	text := fmt.Sprintf("%s %s: ", revisionMark(rev), by)
	key := quoted(w.placeholders(string(ev.Kv.Key)))
	switch {
	case ev.Type == mvccpb.Event_DELETE:
		text += "delete " + key
	case ev.PrevKv == nil:
		text += "create " + key
	default:
		text += "rewrite " + key
	}
	// The conditions for a new key are a matter of speed: that it does not exist, or that the queue is empty.
	if ev.Type == mvccpb.Event_DELETE || ev.PrevKv != nil {
		for _, g := range guards {
			text += w.condition(g, string(ev.Kv.Key))
		}
	}
	if ev.Type == mvccpb.Event_PUT {
		text += "\n    " + quoted(w.placeholders(string(ev.Kv.Value)))
		if id := clientv3.LeaseID(ev.Kv.Lease); id != clientv3.NoLease {
			text += "\n    lease " + w.placeholders(fmt.Sprintf("%x", int64(id)))
		} else {
			text += "\n    no lease"
		}
	}
	w.say("%s", text)
}

// cause finds the request that a change comes from.
func (w *Wire) cause(rev int64, ev *mvccpb.Event) (by string, guards []*pb.Compare) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range slices.Backward(w.sent) {
		if s.rev != 0 && s.rev != rev {
			continue
		}
		for _, o := range s.ops {
			if o.does(ev) {
				s.rev = rev
				return s.client, o.guards
			}
		}
	}
	return "etcd", nil // with its lease
}

// does tells whether an operation can have made a change.
func (o *guardedOp) does(ev *mvccpb.Event) bool {
	if put := o.op.GetRequestPut(); put != nil {
		return ev.Type == mvccpb.Event_PUT && bytes.Equal(put.Key, ev.Kv.Key) && bytes.Equal(put.Value, ev.Kv.Value)
	}
	del := o.op.GetRequestDeleteRange()
	return del != nil && ev.Type == mvccpb.Event_DELETE && bytes.Equal(del.Key, ev.Kv.Key) && len(del.RangeEnd) == 0
}

// condition is a comparison as it is read.
func (w *Wire) condition(c *pb.Compare, key string) string {
	of := ""
	if len(c.RangeEnd) > 0 || string(c.Key) != key {
		of = " of " + quoted(w.placeholders(string(c.Key)))
		if len(c.RangeEnd) > 0 {
			of = " of all from " + quoted(w.placeholders(string(c.Key))) + " to " + quoted(w.placeholders(string(c.RangeEnd)))
		}
	}
	var what, than string
	switch t := c.TargetUnion.(type) {
	case *pb.Compare_CreateRevision:
		what, than = "create revision", revisionMark(t.CreateRevision)
	case *pb.Compare_ModRevision:
		what, than = "mod revision", revisionMark(t.ModRevision)
	case *pb.Compare_Version:
		what, than = "version", strconv.FormatInt(t.Version, 10)
	case *pb.Compare_Value:
		what, than = "value", quoted(w.placeholders(string(t.Value)))
	case *pb.Compare_Lease:
		what, than = "lease", w.placeholders(fmt.Sprintf("%x", t.Lease))
	}
	sign := map[pb.Compare_CompareResult]string{pb.Compare_EQUAL: "=", pb.Compare_NOT_EQUAL: "!=", pb.Compare_LESS: "<", pb.Compare_GREATER: ">"}
	return fmt.Sprintf("\n    if the %s%s %s %s", what, of, sign[c.Result], than)
}

func revisionMark(rev int64) string {
	if rev < firstRevision-1 {
		return strconv.FormatInt(rev, 10)
	}
	return fmt.Sprintf("<R%d>", rev-firstRevision+1)
}

var (
	aTime     = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z"`) // as RFC 3339 has it, in UTC
	aRevision = regexp.MustCompile(`\b70\d{5}\b`)
	aScope    = regexp.MustCompile(`"scope":"[^"]+"`)
)

// placeholders replaces what is another one in each run.
func (w *Wire) placeholders(text string) string {
	w.mu.Lock()
	for i, l := range w.leases {
		digits := fmt.Sprintf("%x", int64(l.id))
		text = regexp.MustCompile(`\b`+digits+`\b`).ReplaceAllString(text, fmt.Sprintf("<L%d>", i+1))
		text = strings.ReplaceAll(text, fmt.Sprintf("%x", digits), fmt.Sprintf("<hex of L%d>", i+1))
	}
	w.mu.Unlock()
	text = aTime.ReplaceAllString(text, `"<time>"`)
	text = aScope.ReplaceAllString(text, `"scope":"<scope>"`)
	text = aRevision.ReplaceAllStringFunc(text, func(digits string) string {
		rev, _ := strconv.ParseInt(digits, 10, 64)
		return revisionMark(rev)
	})
	return strings.NewReplacer(
		fmt.Sprintf(`"owner":%q`, defaultOwner()), `"owner":"<program>"`,
		fmt.Sprintf(`"host":%q`, hostname()), `"host":"<host>"`,
		fmt.Sprintf(`"pid":%d`, os.Getpid()), `"pid":<pid>`,
		fmt.Sprintf(`"by":"%s, process %d"`, hostname(), os.Getpid()), `"by":"<host>, process <pid>"`,
	).Replace(text)
}

// quoted is a key or a value between quotes, or backquotes if there are quotes in it.
func quoted(s string) string {
	if strings.Contains(s, `"`) && strconv.CanBackquote(s) {
		return "`" + s + "`"
	}
	return strconv.Quote(s)
}

// leaseFile is an option.
func (w *Wire) leaseFile() SessionOption { return WithLeaseFile(filepath.Join(w.files, "lease")) }
