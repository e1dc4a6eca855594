package simetcd

import (
	"time"

	"google.golang.org/protobuf/proto"
)

// A Kind is a kind of request. A message of a stream is a request too.
type Kind int

// The kinds of requests.
const (
	Range           Kind = iota + 1
	Put                  // a put outside a transaction
	Delete               // a delete outside a transaction
	Txn                  // a transaction with anything else than ranges in it
	TxnReadOnly          // a transaction of ranges only
	Compact              // a compaction
	LeaseGrant           // a new lease
	LeaseRevoke          // the end of one
	LeaseKeepAlive       // one renewal, on whatever stream
	LeaseTimeToLive      // what is left of a lease
	LeaseLeases          // the list of leases
	Watch                // a new watch; clientv3 sends it again for each watch of a broken stream
	WatchCancel          // the end of one watch
	WatchProgress        // a progress request
	kinds
)

var kindNames = [kinds]string{
	"?", "Range", "Put", "Delete", "Txn", "TxnReadOnly", "Compact", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive",
	"LeaseTimeToLive", "LeaseLeases", "Watch", "WatchCancel", "WatchProgress",
}

// String returns the name of the constant.
func (k Kind) String() string {
	if k < 0 || k >= kinds {
		k = 0
	}
	return kindNames[k]
}

// A Call is one request at the moment when its client sends it.
type Call struct {
	Client string        // the name given to Server.Client
	Kind   Kind          // what is asked
	N      int           // number of the request among those of this kind and client, from 1; ResetCounts does not change it
	Req    proto.Message // the request, of the type in etcdserverpb; do not modify it
}

// An Action is what happens to one request. The zero value lets it pass.
type Action struct {
	// DelayRequest and DelayReply are added to the latency of either direction. On a stream, what comes after waits too.
	DelayRequest, DelayReply time.Duration
	// DropRequest loses the request: it never arrives, and the caller waits until its context ends or the link breaks.
	DropRequest bool
	// DropReply loses the answer of a request that was applied.
	DropReply bool
	// Err is the server's answer, and nothing is applied. Use the ErrGRPC errors of rpctypes or a status error. A new
	// watch that gets one of etcd's auth errors is refused as etcd refuses it; else Err breaks the stream of its message.
	Err error
	// ErrAfter is as Err, but the request was applied.
	ErrAfter error
}
