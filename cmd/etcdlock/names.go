package main

import (
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// named is a name or a key for a table. It is quoted if it is not plain text without spaces.
func named(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || r == '"' }) || safe(name) != name {
		return strconv.Quote(name)
	}
	return name
}

// fromArg is the name that an argument means. A name that is not UTF-8 or not printable is accepted
// in the quoted form in which tables and JSON show it. Any other name is taken as it is.
func fromArg(arg string) string {
	if name, err := strconv.Unquote(arg); err == nil && strings.HasPrefix(arg, `"`) && safe(name) != name {
		return name
	}
	return arg
}

// legible is a copy of a value for JSON, which can hold only UTF-8. Any other text, such as a name or
// a key, is quoted. fromArg accepts the quoted form.
func legible(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.String:
		if utf8.ValidString(v.String()) {
			return v
		}
		return reflect.ValueOf(strconv.Quote(v.String())).Convert(v.Type())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return v
		}
		if v.Kind() == reflect.Interface {
			return legible(v.Elem())
		}
		to := reflect.New(v.Type().Elem())
		to.Elem().Set(legible(v.Elem()))
		return to
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		to := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			to.Index(i).Set(legible(v.Index(i)))
		}
		return to
	case reflect.Struct:
		to := reflect.New(v.Type()).Elem()
		to.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				to.Field(i).Set(legible(v.Field(i)))
			}
		}
		return to
	default:
		return v
	}
}

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
