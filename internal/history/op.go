package history

import (
	"fmt"
	"strings"
	"time"
)

// A Kind is a kind of operation.
type Kind string

// The kinds of operations.
const (
	Acquire Kind = "acquire" // a hold begins
	Release Kind = "release" // a hold ends, with or without a call of its owner
	Convert Kind = "convert" // a hold becomes shared, or exclusive
	Resize  Kind = "resize"  // a semaphore gets another limit
	Read    Kind = "read"    // a client reads the leader
	Lead    Kind = "lead"    // another candidate becomes first in etcd; made from Evidence
)

// An Outcome is the result of an operation as its caller knows it.
type Outcome string

// The outcomes. A Failed operation certainly had no effect.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Unknown Outcome = "unknown"
)

// An Op is one operation. Its times are of one clock for the whole history, in nanoseconds.
type Op struct {
	ID     int    `json:"id"`               // its number among the client's, in the order of their beginning
	Client string `json:"client,omitempty"` // the process
	Name   string `json:"name"`
	Kind   Kind   `json:"kind"`

	Session string `json:"session,omitempty"` // holds of one session may follow each other with one token
	Hold    string `json:"hold,omitempty"`    // what a Release and a Convert belong to
	Entry   int64  `json:"entry,omitempty"`   // CreateRevision of the hold's key; of a Lead and a Read: that of the first entry, 0 for none
	Token   int64  `json:"token,omitempty"`
	Shared  bool   `json:"shared,omitempty"` // of a reader; of a Convert: what it becomes
	Weight  int64  `json:"weight,omitempty"` // of a semaphore's hold
	Limit   int64  `json:"limit,omitempty"`  // of a Resize

	Outcome Outcome `json:"outcome"`
	Call    int64   `json:"call"`
	Return  int64   `json:"return"`

	before int64 // of a Lead: the entry that was first until then
}

// String returns the operation as one line of a report.
func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%v, %v] %s", time.Duration(o.Call), time.Duration(o.Return), o.Kind)
	switch o.Kind {
	case Lead, Read:
		fmt.Fprintf(&b, " %s", entryName(o.Entry))
	case Resize:
		fmt.Fprintf(&b, " to %d", o.Limit)
	default:
		fmt.Fprintf(&b, " %s (session %s, entry %d, token %d", o.Hold, o.Session, o.Entry, o.Token)
		if o.Shared {
			b.WriteString(", shared")
		}
		if o.Weight > 0 {
			fmt.Fprintf(&b, ", weight %d", o.Weight)
		}
		b.WriteString(")")
	}
	if o.Outcome != OK {
		fmt.Fprintf(&b, " %s", o.Outcome)
	}
	return b.String()
}

func entryName(e int64) string {
	if e == 0 {
		return "nobody"
	}
	return fmt.Sprintf("entry %d", e)
}
