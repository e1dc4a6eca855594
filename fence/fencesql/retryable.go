package fencesql

import (
	"errors"
	"reflect"
)

// Retryable reports whether err, or an error that it wraps, says that the database has ended the
// transaction because of a conflict with another one. Nothing was written, and the same transaction
// may succeed later: a serialization failure, a deadlock, a lock that was not granted in time, a
// busy SQLite.
func (d Dialect) Retryable(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if d.conflict(err) {
			return true
		}
		if many, ok := any(err).(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				if d.Retryable(one) {
					return true
				}
			}
		}
	}
	return false
}

// conflict looks at one error of a chain.
func (d Dialect) conflict(err any) bool {
	switch d {
	case PostgreSQL:
		// pgx and lib/pq both have this method.
		if e, ok := err.(interface{ SQLState() string }); ok {
			switch e.SQLState() {
			case "40001", // serialization_failure
				"40P01", // deadlock_detected
				"55P03": // lock_not_available
				return true
			}
		}
	case MySQL:
		switch number(err, "Number") {
		case 1213, // deadlock
			1205, // lock wait timeout; only the statement is rolled back, the caller ends the rest
			1020: // MariaDB: record has changed since last read in a snapshot
			return true
		}
	case SQLite:
		code := number(err, "Code")
		if e, ok := err.(interface{ Code() int }); ok { // modernc.org/sqlite
			code = int64(e.Code())
		}
		switch code & 0xff {
		case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
			return true
		}
	}
	return false
}

// number returns the field of an error that is a struct. The errors of go-sql-driver/mysql and
// mattn/go-sqlite3 have no methods for their codes, and this package imports no driver.
func number(err any, field string) int64 {
	v := reflect.Indirect(reflect.ValueOf(err))
	if v.Kind() != reflect.Struct {
		return 0
	}
	switch v = v.FieldByName(field); {
	case !v.IsValid():
		return 0
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(v.Uint())
	}
	return 0
}
