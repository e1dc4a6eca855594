package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
)

// A Recorder records the operations of one process. It is safe for concurrent use.
type Recorder struct {
	client string
	now    func() int64

	mu  sync.Mutex
	ops []Op
	out *json.Encoder
}

// NewRecorder makes a recorder for the process of that name. now is the clock of the whole history, in nanoseconds.
func NewRecorder(client string, now func() int64) *Recorder {
	return &Recorder{client: client, now: now}
}

// To makes the recorder write each operation as a line of JSON when it begins, and again when its outcome is known, before
// the call returns. ReadOps can then read the operations of a killed process.
func (r *Recorder) To(w io.Writer) *Recorder {
	r.out = json.NewEncoder(w)
	return r
}

// ReadOps reads the operations that a recorder wrote, without an incomplete last line.
func ReadOps(from io.Reader) ([]Op, error) {
	var ops []Op
	at := make(map[string]int)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var o Op
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			if !lines.Scan() {
				break
			}
			return nil, fmt.Errorf("history: line %d: %w", n, err)
		}
		key := fmt.Sprintf("%s/%d", o.Client, o.ID)
		if i, seen := at[key]; seen {
			ops[i] = o
			continue
		}
		at[key] = len(ops)
		ops = append(ops, o)
	}
	return ops, lines.Err()
}

// Ops returns what has been recorded so far.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// begin records an operation as one of unknown outcome.
func (r *Recorder) begin(o Op, at int64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.ID, o.Client, o.Call, o.Outcome = len(r.ops), r.client, at, Unknown
	if o.Kind == Acquire {
		o.Hold = fmt.Sprintf("%s/%d", r.client, o.ID)
	}
	r.ops = append(r.ops, o)
	r.write(o)
	return o.ID
}

func (r *Recorder) end(id int, outcome Outcome, set func(*Op)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := &r.ops[id]
	o.Return, o.Outcome = r.now(), outcome
	if set != nil {
		set(o)
	}
	r.write(*o)
}

func (r *Recorder) write(o Op) {
	if r.out != nil {
		// After a failed write the operation is missing in the history, which Check notices.
		_ = r.out.Encode(o)
	}
}

// A Hold is an acquisition that is being recorded. Its methods are called by one goroutine at a time.
type Hold struct {
	r   *Recorder
	op  int
	end int // the Release; -1 until then
}

// How says as what a hold is asked for.
type How struct {
	Shared bool
	Weight int64
}

// Acquire is called before the call that acquires.
func (r *Recorder) Acquire(name, session string, how ...How) *Hold {
	o := Op{Kind: Acquire, Name: name, Session: session}
	for _, h := range how {
		o.Shared, o.Weight = h.Shared, h.Weight
	}
	return &Hold{r: r, op: r.begin(o, r.now()), end: -1}
}

// Returned is called after it. After an error nothing is held. entry is the CreateRevision of the key, as a watch sees it.
func (h *Hold) Returned(err error, entry, token int64) {
	if err != nil {
		h.r.end(h.op, Failed, nil)
		return
	}
	h.r.end(h.op, OK, func(o *Op) { o.Entry, o.Token = entry, token })
}

// Over is called when the hold is over for its owner: before the call that releases it, or when its context has ended.
// The first call counts.
func (h *Hold) Over() { h.OverAt(h.r.now()) }

// OverAt is Over for an earlier time, as for a process that was stopped and learned of the end late.
func (h *Hold) OverAt(at int64) {
	if h.end >= 0 {
		return
	}
	h.r.mu.Lock()
	o := h.r.ops[h.op]
	h.r.mu.Unlock()
	o.Kind = Release
	h.end = h.r.begin(o, at)
}

// Released is called after the call that releases. Only without an error is the release known to be through.
func (h *Hold) Released(err error) {
	h.Over()
	if err == nil {
		h.r.end(h.end, OK, nil)
	}
}

// Converting is called before a call that changes a hold from shared to exclusive or back. The function that it returns is
// called afterwards.
func (h *Hold) Converting(shared bool) func(err error, token int64) {
	h.r.mu.Lock()
	o := h.r.ops[h.op]
	h.r.mu.Unlock()
	o.Kind, o.Shared = Convert, shared
	id := h.r.begin(o, h.r.now())
	return func(err error, token int64) {
		outcome := OK
		if err != nil {
			outcome = Failed
		}
		h.r.end(id, outcome, func(o *Op) { o.Token = token })
	}
}

// Reading is called before a call that reads the leader. The function that it returns is called afterwards, with the
// CreateRevision of the leader's key, or 0 if there is no leader.
func (r *Recorder) Reading(name string) func(err error, leader int64) {
	id := r.begin(Op{Kind: Read, Name: name}, r.now())
	return func(err error, leader int64) {
		outcome := OK
		if err != nil {
			outcome = Failed
		}
		r.end(id, outcome, func(o *Op) { o.Entry = leader })
	}
}

// Resizing is called before a call that gives a semaphore another limit. The function that it returns is called afterwards.
func (r *Recorder) Resizing(name string, limit int64) func(err error) {
	id := r.begin(Op{Kind: Resize, Name: name, Limit: limit}, r.now())
	return func(err error) {
		outcome := OK
		if err != nil {
			outcome = Failed
		}
		r.end(id, outcome, nil)
	}
}

// Died ends the holds of a client at the time of its death.
func Died(ops []Op, client string, at int64) []Op {
	over := make(map[string]bool)
	next := 0
	for _, o := range ops {
		if o.Kind == Release {
			over[o.Hold] = true
		}
		if o.Client == client {
			next = max(next, o.ID+1)
		}
	}
	for _, o := range slices.Clone(ops) {
		if o.Client == client && o.Kind == Acquire && o.Outcome == OK && !over[o.Hold] {
			o.ID, o.Kind, o.Call, o.Return, o.Outcome = next, Release, at, 0, Unknown
			next++
			ops = append(ops, o)
		}
	}
	return ops
}
