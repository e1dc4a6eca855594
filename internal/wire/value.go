package wire

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Holder is the value of a lock's key. The owner, host, process and time are for listings only. The
// mode and the permits decide about admission. A value without a mode, or in another format, is an
// exclusive entry: etcd's own package leaves the value empty.
type Holder struct {
	Owner string    `json:"owner,omitempty"`
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"` // by the clock of the host

	Mode Mode `json:"mode,omitempty"`
	// Bound is, for Upgrading, the revision from which on entries wait for this one as for a
	// writer. 0 means the revision at which the value was written.
	Bound int64 `json:"bound,omitempty"`
	// Permits is, for Counted, the number of permits wanted of Limit. Ordered is true if the limit
	// was set by SetLimit, which overrides the limit that a process was configured with.
	Permits int  `json:"permits,omitempty"`
	Limit   int  `json:"limit,omitempty"`
	Ordered bool `json:"ordered,omitempty"`

	// Holds are the keys that the waiter holds while it waits. All are the names that it wants
	// together with this one. Both are written as by Text.
	Holds []string `json:"holds,omitempty"`
	All   []string `json:"all,omitempty"`

	// Trace is the traceparent of the call that wrote the key. It is for people and their tools, and
	// decides nothing. Earlier versions ignore it.
	Trace string `json:"trace,omitempty"`
}

// Mode says which other entries may hold together with an entry.
type Mode string

// The modes.
const (
	Exclusive Mode = ""          // none
	Shared    Mode = "shared"    // other shared entries
	Upgrading Mode = "upgrading" // the readers that it lets in, and none once they have left
	Counted   Mode = "counted"   // other counted entries, within the limit
)

// Encode returns the value for a lock's key.
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

// plain returns the JSON of a holder that has no more than an identity and a time. This JSON is
// written for each lock, and reflection would take longer than the rest of Lock. ok is false for
// other holders, and for texts that need escapes.
func (h Holder) plain() (string, bool) {
	more := h.Trace != "" && !Traceparent(h.Trace) || h.Mode != "" || h.Bound != 0 || h.Permits != 0 || h.Limit != 0 || h.Ordered || len(h.Holds) > 0 || len(h.All) > 0
	year := h.Since.Year()
	if more || !verbatim(h.Owner) || !verbatim(h.Host) || year < 1 || year > 9999 || h.Since.Location() != time.UTC {
		return "", false
	}
	who := Identify(h.Owner, h.Host, h.PID)
	if h.Since.IsZero() {
		return string(who) + "}", h.Trace == ""
	}
	return who.Since(h.Since, h.Trace), true
}

// Identity is the constant part of the value of an exclusive entry: all but the time. It is empty if
// a text needs escapes.
type Identity string

// Identify returns the identity of an owner.
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

// Since returns the whole value. t is in UTC. trace is a traceparent, or "" for none.
func (i Identity) Since(t time.Time, trace string) string {
	b := append(make([]byte, 0, len(i)+48+len(trace)+12), i...)
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, `"since":"`...)
	b = t.AppendFormat(b, time.RFC3339Nano)
	if trace != "" {
		b = append(append(b, `","trace":"`...), trace...)
	}
	return string(append(b, `"}`...))
}

// Traceparent reports whether a string is a traceparent of the W3C's Trace Context: the version, the trace,
// the parent and the flags in hexadecimal, as in "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".
func Traceparent(s string) bool {
	if len(s) != len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if dash := i == 2 || i == 35 || i == 52; dash && c != '-' || !dash && !digit {
			return false
		}
	}
	return true
}

// verbatim reports whether a string needs no escapes in JSON.
func verbatim(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte("\"\\<>&", c) >= 0 {
			return false
		}
	}
	return true
}

// DecodeHolder decodes a lock's value. ok is false for a value of another library.
func DecodeHolder(value []byte) (h Holder, ok bool) {
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &h) != nil {
		return Holder{}, false
	}
	h.Holds, h.All = texts(h.Holds, FromText), texts(h.All, FromText)
	if !Traceparent(h.Trace) {
		h.Trace = ""
	}
	return h, true
}

// ReadHolder decodes the value of a lock of this library. ours is false for any other value, such as
// a candidate's proposal.
func ReadHolder(value []byte) (h Holder, ours bool) {
	if h, ours = DecodeHolder(value); !ours || h.PID <= 0 || h.Since.IsZero() {
		return Holder{}, false
	}
	return Wants(value), true
}

// MostPermits is the largest limit.
const MostPermits = math.MaxInt32

// Wants returns the mode and permits of an entry. A value that has none is exclusive. A candidate's
// proposal may be any JSON, so JSON without a time counts as foreign.
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
