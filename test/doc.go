// Package test proves the library on real etcd: three members in the test
// process, weather made by stopping them and by cutting connections, and holders
// that are processes of their own. It is a module by itself, never tagged, so
// that etcd's server stays out of the users' builds.
package test
