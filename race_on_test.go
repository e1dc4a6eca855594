//go:build race || lockorder

package etcdlock

const raceEnabled = true
