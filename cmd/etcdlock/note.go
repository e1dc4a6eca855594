package main

import (
	"context"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/cmd/etcdlock/internal/queues"
)

// noter tells those who look on, with ls and show, since when this process is in line and holds.
type noter struct {
	client  *clientv3.Client
	session *etcdlock.Session
	names   []string
	since   time.Time // in line
}

// lined tells that this process is in line, from now on.
func (n *noter) lined(ctx context.Context) {
	n.since = time.Now()
	n.write(ctx, queues.Note{})
}

// granted tells that it holds, from now on.
func (n *noter) granted(ctx context.Context, h held) {
	note := queues.Note{Granted: time.Now().UTC()}
	if single, ok := h.(interface{ CreateRevision() int64 }); ok {
		note.Rev = single.CreateRevision()
	}
	n.write(ctx, note)
}

// write writes in the background, and once: nothing depends on it, and a user may not be permitted to.
func (n *noter) write(ctx context.Context, note queues.Note) {
	host, _ := os.Hostname() // or nothing, if the system does not know either
	note.Host, note.PID, note.Since = host, os.Getpid(), n.since.UTC()
	lease := n.session.Lease()
	if lease == clientv3.NoLease {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	go func() { // ends with its context, and with the client
		defer cancel()
		for _, name := range n.names {
			if note.Put(ctx, n.client.KV, name, lease) != nil {
				return
			}
		}
	}()
}
