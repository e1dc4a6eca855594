package simetcd

import (
	_ "unsafe" // for go:linkname
)

// valCtxCh is what clientv3's watcher waits on in order to wait for ever. It is made when clientv3 is initialised,
// outside any synctest bubble, and a goroutine that waits on such a channel is not durably blocked: virtual time would
// stand still as soon as something is watched. A nil channel blocks as well and belongs to nobody.
//
// That reaches into clientv3 for the whole process, and is tolerable because only tests import this package.
//
//go:linkname valCtxCh go.etcd.io/etcd/client/v3.valCtxCh
var valCtxCh chan struct{}

func init() { valCtxCh = nil }
