package simetcd

import (
	_ "unsafe" // for go:linkname
)

// valCtxCh is the channel on which clientv3's watcher waits without end. clientv3 makes it at initialisation, outside any
// synctest bubble. A goroutine that waits on such a channel is not durably blocked, so virtual time would stand still as
// soon as a key is watched. A nil channel blocks too and belongs to no bubble.
//
// This changes clientv3 for the whole process, which is acceptable because only tests import this package.
//
//go:linkname valCtxCh go.etcd.io/etcd/client/v3.valCtxCh
var valCtxCh chan struct{}

func init() { valCtxCh = nil }
