// Package etcdproc builds any published version of etcd from the module proxy, and runs it as
// processes of this machine. It serves measurements, fault injection, and tests of what a server
// inside the test's process does not have: the commands, the HTTP gateway, the proxy and other
// versions.
//
//	programs, err := etcdproc.Own(ctx, say)          // or Build, or Found
//	cluster, err := programs.Start(ctx, &kids, etcdproc.Config{Size: 3})
//	defer cluster.Stop()
//	client, err := cluster.Client()
//	...
//	i, err := cluster.Leader(ctx)
//	cluster.Members[i].Kill()                        // or Signal, or End
//	...
//	err = cluster.Members[i].Start()
//	err = cluster.Members[i].Ready(ctx)
//
// The programs are kept below the user's cache directory, for every program and test that uses this
// package.
package etcdproc
