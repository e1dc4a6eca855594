//go:build !race && !lockorder

package etcdlock

const raceEnabled = false
