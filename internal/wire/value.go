package wire

import (
	"encoding/json"
	"time"
)

// Holder is the value of a lock's key: who put it there. It is for people and
// for listings alone; nothing is decided by it, and foreign keys may hold
// anything (etcd's own package leaves the value empty).
type Holder struct {
	Owner string    `json:"owner,omitempty"`
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"` // by the clock of the host
}

// Encode writes the value of a lock's key.
func (h Holder) Encode() string {
	b, err := json.Marshal(h)
	if err != nil { // only a year beyond 9999 can bring this about
		return "{}"
	}
	return string(b)
}

// DecodeHolder reads a lock's value; ok is false for one that is not ours.
func DecodeHolder(value []byte) (h Holder, ok bool) {
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &h) != nil {
		return Holder{}, false
	}
	return h, true
}
