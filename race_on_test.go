//go:build race

package etcdlock

const raceEnabled = true
