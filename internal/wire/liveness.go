package wire

import (
	"encoding/json"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// LivenessPrefix is the prefix of all liveness keys. Without a slash a liveness key lies in the
// range of no name.
const LivenessPrefix = "etcdlock.alive."

// LivenessKey is the key under a lease that says where its process listens.
func LivenessKey(lease clientv3.LeaseID) string {
	return LivenessPrefix + Hex(lease)
}

// Liveness is the value of a liveness key.
type Liveness struct {
	Address string `json:"address,omitempty"` // empty: nothing can be concluded about the process
	// Scope identifies the processes that share the loopback of Address; empty for another address.
	Scope string `json:"scope,omitempty"`
	Host  string `json:"host,omitempty"`
	PID   int    `json:"pid,omitempty"`
	// Dead says that a candidate found the process dead. This mark is final: no process may take
	// the lease over any more, and any process that finds the mark revokes the lease.
	Dead bool `json:"condemned,omitempty"`
	// By is the process that wrote the mark.
	By string `json:"by,omitempty"`
}

// Encode returns the value for a liveness key.
func (l Liveness) Encode() string {
	b, _ := json.Marshal(l) // cannot fail: strings and numbers only
	return string(b)
}

// ParseLiveness is the inverse of Encode. It returns the zero value, from which nothing can be
// concluded, for a value that Encode does not produce.
func ParseLiveness(value []byte) Liveness {
	var l Liveness
	if json.Unmarshal(value, &l) != nil {
		return Liveness{}
	}
	return l
}
