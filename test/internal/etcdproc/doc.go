// Package etcdproc builds etcd from the module proxy, in any version that is published
// there, and runs it as processes: what a test needs that a server in its own process
// cannot show, as the commands, the HTTP gateway, the proxy and other versions.
package etcdproc
