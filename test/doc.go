// Package test proves the library on real etcd. It is a module by itself, never tagged, so
// that etcd's server stays out of the users' builds.
//
// The packages locks, elections, sessions and faults run on three members in the test
// process (internal/cluster): connections are cut, members stopped, and holders are
// processes of their own. A package is the unit that runs in parallel, as the framework of
// the members allows one test at a time in a process. The packages mixed, chaos and servers run
// on etcd processes, and bubble on a server in virtual time. mutants takes rules out of the
// library, and checks that a test fails for each.
package test
