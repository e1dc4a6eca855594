package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Workers leave their stays in files: a million of them are too many for a line.

const stayBytes = 4 * 8

func writeStays(file string, stays []stay) error {
	if file == "" {
		return nil
	}
	buf := make([]byte, 0, len(stays)*stayBytes)
	for _, s := range stays {
		for _, v := range [...]int64{s.Start, s.End, s.Token, int64(s.Process)} {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(v))
		}
	}
	return os.WriteFile(file, buf, 0o600)
}

// readStays appends what a worker left, and removes the file.
func readStays(to []stay, file string) ([]stay, error) {
	buf, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(buf)%stayBytes != 0 {
		return nil, fmt.Errorf("%s is cut off", file)
	}
	for ; len(buf) > 0; buf = buf[stayBytes:] {
		at := func(i int) int64 { return int64(binary.LittleEndian.Uint64(buf[8*i:])) }
		to = append(to, stay{at(0), at(1), at(2), int(at(3))})
	}
	return to, os.Remove(file)
}
