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
	// he wants this one and the others at once; see Text for how they are written.
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
	if plain, ok := h.plain(); ok {
		return plain
	}
	h.Holds, h.All = texts(h.Holds, Text), texts(h.All, Text)
	b, err := json.Marshal(h)
	if err != nil { // only a year beyond 9999 can bring this about
		return "{}"
	}
	return string(b)
}

// plain is the JSON of a holder of whom no more is known than who he is: that is written for
// each lock, and reflection would take longer than all the rest. It is false for other
// holders, and if something needs to be escaped.
func (h Holder) plain() (string, bool) {
	more := h.Mode != "" || h.Bound != 0 || h.Permits != 0 || h.Limit != 0 || h.Ordered || len(h.Holds) > 0 || len(h.All) > 0
	year := h.Since.Year()
	if more || !verbatim(h.Owner) || !verbatim(h.Host) || year < 1 || year > 9999 || h.Since.Location() != time.UTC {
		return "", false
	}
	who := Identify(h.Owner, h.Host, h.PID)
	if h.Since.IsZero() {
		return string(who) + "}", true
	}
	return who.Since(h.Since), true
}

// Identity is the value of a lock's key for who wants everything for himself, but for since when:
// that part is the same each time. It is empty if something needs to be escaped.
type Identity string

// Identify says who wants the lock.
func Identify(owner, host string, pid int) Identity {
	if !verbatim(owner) || !verbatim(host) {
		return ""
	}
	b := make([]byte, 1, 96+len(owner)+len(host))
	b[0] = '{'
	field := func(name string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"', ':')
	}
	if owner != "" {
		field("owner")
		b = append(append(append(b, '"'), owner...), '"')
	}
	if host != "" {
		field("host")
		b = append(append(append(b, '"'), host...), '"')
	}
	if pid != 0 {
		field("pid")
		b = strconv.AppendInt(b, int64(pid), 10)
	}
	return Identity(b)
}

// Since is the whole value. The time is to be UTC.
func (i Identity) Since(t time.Time) string {
	b := append(make([]byte, 0, len(i)+48), i...)
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, `"since":"`...)
	return string(append(t.AppendFormat(b, time.RFC3339Nano), `"}`...))
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
	h.Holds, h.All = texts(h.Holds, FromText), texts(h.All, FromText)
	return h, true
}

// ReadHolder reads the value of a lock of this library, and what it wants; ours is false for any
// other value, as a candidate's proposal.
func ReadHolder(value []byte) (h Holder, ours bool) {
	if h, ours = DecodeHolder(value); !ours || h.PID <= 0 || h.Since.IsZero() {
		return Holder{}, false
	}
	return Wants(value), true
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
