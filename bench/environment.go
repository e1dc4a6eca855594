package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// environment is what one has to know of the machine to read the numbers.
type environment struct {
	Time   time.Time `json:"time"`
	Go     string    `json:"go"`
	Etcd   string    `json:"etcd"`
	OS     string    `json:"os"`
	CPUs   int       `json:"cpus"`
	Load   string    `json:"load"`     // average when it began
	Sync   float64   `json:"sync_p50"` // µs of a write and fsync where etcd's data lies
	Data   string    `json:"data"`
	Absent []string  `json:"absent"` // contestants that are not here
	Commit string    `json:"commit,omitempty"`
}

func survey(data, etcd string) environment {
	e := environment{
		Time: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), Etcd: etcd,
		OS: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Data: data,
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		e.OS += " " + unix.ByteSliceToString(uts.Release[:])
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		e.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				e.Commit = s.Value
			}
		}
	}
	e.Sync = syncTime(data)
	return e
}

// syncTime is how long the disk takes for what every commit waits for.
func syncTime(dir string) float64 {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []float64
	for range 60 {
		began := time.Now()
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return 0
		}
		if err := f.Sync(); err != nil {
			return 0
		}
		took = append(took, micros(time.Since(began)))
	}
	return median(took)
}
