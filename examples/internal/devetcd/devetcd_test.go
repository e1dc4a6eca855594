package devetcd

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestServersRunSideBySideAndLeaveNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp) // where the data directories go on Unix
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	var closers []func()
	for _, value := range []string{"first", "second"} {
		client, closeAll, err := Connect(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, closeAll)

		before, err := client.Get(ctx, "key")
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Kvs) != 0 {
			t.Errorf("a new server holds %v: are the two servers one?", before.Kvs)
		}
		if _, err := client.Put(ctx, "key", value); err != nil {
			t.Fatal(err)
		}
	}
	for _, closeAll := range closers {
		closeAll()
	}
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStartEndsWithItsContextAndLeavesNothingBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	server, err := Start(ctx)
	if err == nil {
		// Ready at once is possible in theory; then there is nothing to see.
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		t.Skip("the server was ready before the cancelled context was looked at")
	}
	left, readErr := os.ReadDir(temp)
	if readErr != nil {
		t.Fatal(readErr)
	}
	if len(left) != 0 {
		t.Errorf("left behind after %v: %v", err, left)
	}
}
