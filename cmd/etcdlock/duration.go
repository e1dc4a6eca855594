package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// span is a duration in a flag. A bare number is in seconds, as for "etcdctl lock --ttl", "flock -w"
// and timeout.
type span time.Duration

func (s *span) Set(text string) error {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		*s = span(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is neither a number of seconds, such as 10, nor a duration, such as 10s or 1m30s", text)
	}
	*s = span(d)
	return nil
}

func (s *span) String() string {
	if *s == 0 {
		return "0" // help does not print this default
	}
	return time.Duration(*s).String()
}

func (s *span) Type() string { return "duration" }

// durationVar adds a flag for a duration; see span.
func durationVar(f *pflag.FlagSet, d *time.Duration, name, shorthand string, value time.Duration, usage string) {
	*d = value
	f.VarP((*span)(d), name, shorthand, usage)
}
