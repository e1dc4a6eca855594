// Package etcdproc builds etcd from the module proxy, in any version that is published
// there, and runs it as processes of this machine: for measurements, for faults, and for
// what a server inside a test's own process cannot show, as the commands, the HTTP
// gateway, the proxy and other versions.
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
// What is built is kept below the user's cache directory, for every program and test
// that uses this package.
package etcdproc
