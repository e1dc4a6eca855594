package main

import (
	"github.com/etcdlock/etcdlock/internal/wire"
)

// quotedNames is the text for the names of a lock in messages.
func quotedNames(names []string) string {
	if len(names) == 1 {
		return wire.Quote(names[0])
	}
	return wire.QuoteAll(names)
}

// checkNames refuses names before any request to etcd. Its error names the flag that allows them.
func (c *connection) checkNames(names ...string) error {
	for _, name := range names {
		err := wire.CheckName(name)
		switch {
		case err == nil, c.foreignNames && wire.CheckForeignName(name) == nil:
		case wire.CheckForeignName(name) == nil:
			return usagef("%w; --foreign-names allows it", err)
		default:
			return usageError{err}
		}
	}
	return nil
}
