// Package text shows names, keys and values, which may contain any bytes, to people and in JSON.
package text

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Named is a name or a key for a table. It is quoted if it is not plain text without spaces.
func Named(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || r == '"' }) || Safe(name) != name {
		return strconv.Quote(name)
	}
	return name
}

// FromArg is the name that an argument means. A name that is not UTF-8 or not printable is accepted
// in the quoted form in which tables and JSON show it. Any other name is taken as it is.
func FromArg(arg string) string {
	if name, err := strconv.Unquote(arg); err == nil && strings.HasPrefix(arg, `"`) && Safe(name) != name {
		return name
	}
	return arg
}

// Legible is a copy of a value for JSON, which can hold only UTF-8. Any other text, such as a name or
// a key, is quoted. FromArg accepts the quoted form.
func Legible(v any) any { return legible(reflect.ValueOf(v)).Interface() }

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

// Safe quotes text of other clients that could change a terminal or the order of the text around it,
// such as control characters and marks that reverse the direction.
func Safe(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// EscapeJSON escapes the characters of a JSON text that could change a terminal or the order of the text
// around them. The text stands for the same value.
func EscapeJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
