// Package eviction has the reasons of evictions. The transaction that deletes a holder's key writes a
// notice beside the queue, under a lease of a minute. The holder reads it when it finds its key gone,
// and an audit reads it at the revision of the deletion. Clients that know nothing of notices are not
// affected, because a notice is no entry of the queue. Nothing is left when its lease has ended.
package eviction

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Kept is the TTL of a notice.
const Kept = time.Minute

// Notice says why an entry was evicted.
type Notice struct {
	Reason string `json:"reason,omitempty"`

	// The process that evicts, as it describes itself.
	Owner string    `json:"owner,omitempty"`
	Host  string    `json:"host,omitempty"`
	PID   int       `json:"pid,omitempty"`
	Since time.Time `json:"since,omitzero"`

	Key            string `json:"key"` // of the entry, as wire.Text has it
	CreateRevision int64  `json:"rev"` // of the entry
}

// prefix is that of the notices of a name.
func prefix(name string) string { return wire.Side(name, "evicted/") }

// Put is the operation that writes a notice for an entry of a name, under a lease of its own.
func (n Notice) Put(name string, lease clientv3.LeaseID) (clientv3.Op, error) {
	n.Key = wire.Text(n.Key)
	value, err := json.Marshal(n)
	return clientv3.OpPut(prefix(name)+wire.Hex(lease), string(value), clientv3.WithLease(lease)), err
}

// By describes the process that has evicted.
func (n *Notice) By() string {
	switch {
	case n.Owner != "" && n.Host != "":
		return n.Owner + " on " + n.Host
	default:
		return n.Owner + n.Host
	}
}

// String is the reason, and the process that has evicted.
func (n *Notice) String() string {
	var parts []string
	if n.Reason != "" {
		parts = append(parts, wire.Quote(n.Reason))
	}
	if by := n.By(); by != "" {
		parts = append(parts, fmt.Sprintf("(by %s)", wire.Quote(by)))
	}
	return strings.Join(parts, " ")
}

// Find reads the notice for an entry of a name, at a revision of the store, 0 for the present one. It
// returns nil if there is none. It sends one request, which ctx bounds.
func Find(ctx context.Context, kv clientv3.KV, name, key string, createRevision, at int64) (*Notice, error) {
	resp, err := kv.Get(ctx, prefix(name), clientv3.WithPrefix(), clientv3.WithRev(at))
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Kvs {
		var n Notice
		if json.Unmarshal(kv.Value, &n) == nil && wire.FromText(n.Key) == key && n.CreateRevision == createRevision {
			n.Key = key
			return &n, nil
		}
	}
	return nil, nil
}
