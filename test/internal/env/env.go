// Package env reads what a test is asked to do from the environment.
package env

import (
	"os"
	"strconv"
	"testing"
)

// Number is the number of that name, or otherwise if it is not set.
func Number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
