package main

import (
	"errors"
	"os"
	"testing"

	"github.com/etcdlock/etcdlock/test/fence/dbserver"
)

// The short form of the run that `make fence` makes: the fence lets no stale write through, and
// without it there are some.
func TestNoStaleWriteWithTheFenceAndSomeWithout(t *testing.T) {
	for _, name := range dbserver.Names {
		t.Run(name, func(t *testing.T) {
			db, err := dbserver.Start(t.Context(), name)
			if errors.Is(err, dbserver.ErrMissing) && os.Getenv(dbserver.Need) == "" {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer db.Stop()
			if err := both(t.Context(), db, 2000, 1000); err != nil {
				t.Error(err)
			}
		})
	}
}
