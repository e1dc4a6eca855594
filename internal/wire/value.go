package wire

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Holder is the value of a lock's key. Who put it there is for people and for
// listings alone. By what it wants, the shared kinds of locks decide; a value that does
// not tell, or is not ours, wants everything for itself (etcd's own package leaves the
// value empty).
type Holder struct {
	Owner string    `json:"owner,omitempty"`
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"` // by the clock of the host

	Mode Mode `json:"mode,omitempty"`
	// Bound is, for Upgrading, the revision from which on entries wait for it as for a
	// writer; 0 for that at which the value was written.
	Bound int64 `json:"bound,omitempty"`
	// Permits is, for Counted, how many of Limit it wants. Ordered says that the limit was
	// changed by order, and stands above what a process was told.
	Permits int  `json:"permits,omitempty"`
	Limit   int  `json:"limit,omitempty"`
	Ordered bool `json:"ordered,omitempty"`

	// Holds are the keys that whoever waits here holds meanwhile, and All the names of which
	// he wants this one and the others at once.
	Holds []string `json:"holds,omitempty"`
	All   []string `json:"all,omitempty"`
}

// Mode is what an entry wants to share.
type Mode string

// The modes.
const (
	Exclusive Mode = ""          // nothing
	Shared    Mode = "shared"    // the lock, with all who want that
	Upgrading Mode = "upgrading" // the lock so far, and nothing from when the others have left
	Counted   Mode = "counted"   // permits
)

// Encode writes the value of a lock's key.
func (h Holder) Encode() string {
	if b, ok := h.plain(); ok {
		return string(b)
	}
	b, err := json.Marshal(h)
	if err != nil { // only a year beyond 9999 can bring this about
		return "{}"
	}
	return string(b)
}

// plain is the JSON of a holder of whom no more is known than who he is: that is written for
// each lock, and reflection would take longer than all the rest. It is false for other
// holders, and if something needs to be escaped.
func (h Holder) plain() ([]byte, bool) {
	more := h.Mode != "" || h.Bound != 0 || h.Permits != 0 || h.Limit != 0 || h.Ordered || len(h.Holds) > 0 || len(h.All) > 0
	year := h.Since.Year()
	if more || !verbatim(h.Owner) || !verbatim(h.Host) || year < 1 || year > 9999 || h.Since.Location() != time.UTC {
		return nil, false
	}
	b := make([]byte, 1, 96+len(h.Owner)+len(h.Host))
	b[0] = '{'
	field := func(name string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"', ':')
	}
	if h.Owner != "" {
		field("owner")
		b = append(append(append(b, '"'), h.Owner...), '"')
	}
	if h.Host != "" {
		field("host")
		b = append(append(append(b, '"'), h.Host...), '"')
	}
	if h.PID != 0 {
		field("pid")
		b = strconv.AppendInt(b, int64(h.PID), 10)
	}
	if !h.Since.IsZero() {
		field("since")
		b = append(h.Since.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
	}
	return append(b, '}'), true
}

// verbatim tells whether a string stands in JSON as it is.
func verbatim(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte("\"\\<>&", c) >= 0 {
			return false
		}
	}
	return true
}

// DecodeHolder reads a lock's value; ok is false for one that is not ours.
func DecodeHolder(value []byte) (h Holder, ok bool) {
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &h) != nil {
		return Holder{}, false
	}
	return h, true
}

// MostPermits is the largest limit.
const MostPermits = math.MaxInt32

// Wants reads what an entry wants; all of it where the value does not tell. A candidate's
// proposal may be any JSON: one that does not say since when is not taken for ours.
func Wants(value []byte) Holder {
	h, ok := DecodeHolder(value)
	switch {
	case !ok:
		return Holder{}
	case h.Since.IsZero(), h.Mode == Counted && (h.Permits <= 0 || h.Limit <= 0 || h.Permits > MostPermits || h.Limit > MostPermits):
		h.Mode = Exclusive
	}
	return h
}
