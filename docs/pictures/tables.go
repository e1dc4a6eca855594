package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// table returns the rows of the table in a page that has a header beginning with some cells.
func table(docs, page string, header ...string) ([][]string, error) {
	text, err := os.ReadFile(filepath.Join(docs, page))
	if err != nil {
		return nil, err
	}
	var rows [][]string
	found := false
	for _, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "|") {
			if found {
				return rows, nil
			}
			continue
		}
		row := cells(line)
		switch {
		case found && !strings.HasPrefix(row[0], "---"):
			rows = append(rows, row)
		case !found && len(row) >= len(header):
			found = true
			for i := range header {
				found = found && row[i] == header[i]
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("%s has no table %q", page, header)
	}
	return rows, nil
}

func cells(line string) []string {
	parts := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	for i, p := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(p), "*")
	}
	return parts
}

// figure reads a number as the tables write it, such as "85,165" or "+1329.3".
func figure(cell string) (float64, error) {
	return strconv.ParseFloat(strings.ReplaceAll(cell, ",", ""), 64)
}

// figures reads the numbers of some cells of one row.
func figures(row []string, columns ...int) ([]float64, error) {
	var all []float64
	for _, i := range columns {
		if i >= len(row) {
			return nil, fmt.Errorf("%q has no column %d", row, i)
		}
		x, err := figure(row[i])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", row, err)
		}
		all = append(all, x)
	}
	return all, nil
}
