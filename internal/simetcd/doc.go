// Package simetcd is an etcd in memory, for tests that run inside a testing/synctest bubble. Only tests import it.
//
// It fakes the protocol, not the client: each [Client] is a real clientv3.Client whose key-value, lease and watch parts
// talk to the [Server] through a simulated link with latencies in virtual time. What clientv3 does by itself (opening
// watches again, renewing leases, mapping errors) therefore happens as in production.
//
//	synctest.Test(t, func(t *testing.T) {
//		srv := simetcd.New(simetcd.Config{Seed: 1})
//		defer srv.Close()
//		a := srv.Client("a")
//		a.Put(ctx, "key", "value")   // a embeds a *clientv3.Client
//	})
//
// # Faults
//
// A link can be cut in either direction, healed, and reset: see [Client.Cut] and its neighbours. Single requests are
// delayed, lost, refused or left without an answer by [Server.Intercept]. The server can be stopped, change its leader,
// compact, break or cancel watches, lose a deletion, have an administrator, and be restored from a snapshot.
//
// A request is never taken back: it is applied when it arrives, even if its caller has given up.
//
// # Reproducibility
//
// The same seed and the same program give the same run, as far as the program does not itself wake several goroutines
// at one instant. Latencies are a hash of seed, client, kind of request and its number; all that happens at the server
// happens at an instant of its own, to the nanosecond; and nothing depends on the order of a map.
//
// A program wakes several goroutines at one instant if all waited for one event or one lease. With [Config].Reproducible
// their requests are delayed for up to a quarter of a millisecond, each by a hash of its content, so that chance does not
// order them. Each watch then has a stream of its own, because clientv3 resumes the watches of one stream in the order of
// a map.
//
// # What differs from etcd
//
// A lease expires exactly its TTL after its last renewal arrived (etcd looks only every 500 ms). There is one member,
// so serializable reads are as fresh as the others. clientv3's retries are part of its connections, which are missing
// here: a read or a grant that met codes.Unavailable reports it at once. There is no auth (use [Server.Intercept]), no
// cluster and no maintenance API: those fields of the client are nil.
package simetcd
