package main

import (
	"context"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/internal/inspect/queues"
)

// noter writes beside the queue when this process entered it and when it was granted, for ls and
// show.
type noter struct {
	client  *clientv3.Client
	session *etcdlock.Session
	names   []string
	since   time.Time // when it entered the queue
}

// queued notes that this process is in the queue from now on.
func (n *noter) queued(ctx context.Context) {
	n.since = time.Now()
	n.write(ctx, queues.Note{})
}

// granted notes that this process holds from now on.
func (n *noter) granted(ctx context.Context, h held) {
	note := queues.Note{Granted: time.Now().UTC()}
	if single, ok := h.(interface{ CreateRevision() int64 }); ok {
		note.Rev = single.CreateRevision()
	}
	n.write(ctx, note)
}

// write writes the note once, in the background. An error is ignored, because nothing depends on the
// note, and the user may lack the permission.
func (n *noter) write(ctx context.Context, note queues.Note) {
	host, _ := os.Hostname() // empty after an error
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
