// Package mixed proves that a fleet can be mixed: etcdlock and etcd's own package, its
// commands, its lock and election services and their HTTP gateway, on one name at one
// time. etcd runs as processes, of the version that the module requires or of that in
// the directory ETCDLOCK_ETCD_DIR; so the tests are also what is run on other versions.
//
// ETCDLOCK_MIXED_OPS says how many operations each pair of the fleets does, and
// ETCDLOCK_MIXED_SEED makes their choices those of an earlier run.
package mixed
