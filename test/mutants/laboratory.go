package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// laboratory builds and runs tests, with mutations and without.
type laboratory struct {
	*checkout
	dir      string // for what is built
	parallel int
	took     map[string]time.Duration // by test, without a mutation
}

const (
	// controlTimeout ends the tests of a package, which run one after the other.
	controlTimeout = 10 * time.Minute
	// hungAfter ends a test that a mutation made hang. A test that takes longer than a
	// second without the mutation gets that many times more.
	hungAfter = 20 * time.Second
)

// byPackage returns the tests by the directories of their packages.
func (l *laboratory) byPackage(tests []string) (map[string][]string, error) {
	all := map[string][]string{}
	for _, name := range tests {
		dir, err := l.testDir(name)
		if err != nil {
			return nil, err
		}
		all[dir] = append(all[dir], name)
	}
	return all, nil
}

// control checks that all the tests of these mutations pass as things are.
func (l *laboratory) control(ctx context.Context, chosen []*mutation) error {
	var tests []string
	for _, m := range chosen {
		tests = append(tests, m.tests...)
	}
	packages, err := l.byPackage(tests)
	if err != nil {
		return err
	}
	l.took = map[string]time.Duration{}
	for pkg, names := range packages {
		binary, err := l.build(ctx, "control", pkg, "")
		if err != nil {
			return fmt.Errorf("without a mutation: %w", err)
		}
		// All together, as their names are known to be those of tests.
		v, out := l.test(ctx, binary, pkg, strings.Join(names, "|"), controlTimeout)
		if v != missed {
			return fmt.Errorf("these tests of %s must pass without a mutation: %s\n%s", pkg, strings.Join(names, ", "), out)
		}
		for _, name := range names {
			m := regexp.MustCompile("--- PASS: " + name + ` \((.+)\)`).FindStringSubmatch(out)
			if m == nil {
				return fmt.Errorf("%s has no test %s, or it was skipped\n%s", pkg, name, out)
			}
			if l.took[name], err = time.ParseDuration(m[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// result is what came of a mutation.
type result struct {
	*mutation
	verdicts []verdict // of its tests
	output   string
	err      error // it could not be tried
	took     time.Duration
}

func (r *result) caught() bool {
	for _, v := range r.verdicts {
		if v == missed {
			return false
		}
	}
	return r.err == nil && len(r.verdicts) > 0
}

// all tries the mutations, some at a time.
func (l *laboratory) all(ctx context.Context, chosen []*mutation) []result {
	results := make([]result, len(chosen))
	next := make(chan int)
	var workers sync.WaitGroup
	for range l.parallel {
		workers.Go(func() {
			for i := range next {
				began := time.Now()
				results[i] = l.try(ctx, fmt.Sprint(i), chosen[i])
				results[i].took = time.Since(began)
				said := "."
				if !results[i].caught() {
					said = "\nnot caught: " + chosen[i].takesOut + "\n"
				}
				fmt.Fprint(os.Stderr, said)
			}
		})
	}
	for i := range chosen {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	fmt.Fprintln(os.Stderr)
	return results
}

// try tries one mutation.
func (l *laboratory) try(ctx context.Context, id string, m *mutation) (r result) {
	r.mutation = m
	overlay, err := l.overlay(id, m)
	if err != nil {
		r.err = err
		return r
	}
	packages, err := l.byPackage(m.tests)
	if err != nil {
		r.err = err
		return r
	}
	said := map[string]verdict{}
	for pkg, names := range packages {
		binary, err := l.build(ctx, id, pkg, overlay)
		if err != nil {
			r.err = err
			return r
		}
		for _, name := range names {
			v, out := l.test(ctx, binary, pkg, name, max(hungAfter, time.Duration(hungAfter.Seconds())*l.took[name]))
			said[name] = v
			r.output += out
		}
		_ = os.Remove(binary)
	}
	for _, name := range m.tests {
		r.verdicts = append(r.verdicts, said[name])
	}
	return r
}

// overlay writes the file that tells the go command of the mutated ones.
func (l *laboratory) overlay(id string, m *mutation) (string, error) {
	texts, err := m.apply(l.checkout)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, text := range texts {
		mutated := filepath.Join(l.dir, fmt.Sprintf("%s-%d.go", id, len(replace)))
		if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(l.root, file)] = mutated
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(l.dir, id+".json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// build builds the tests of a package.
func (l *laboratory) build(ctx context.Context, id, pkg, overlay string) (binary string, err error) {
	binary = filepath.Join(l.dir, id+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-o", binary, ".")
	cmd.Dir = filepath.Join(l.root, pkg) // in the module of the package
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	return binary, nil
}

// verdict is what a test says to a mutation.
type verdict string

const (
	missed   verdict = "**passed**"
	failed   verdict = "failed"
	panicked verdict = "panicked" // as a deadlock does in a bubble of virtual time
	hung     verdict = "hung"
)

// test runs tests, whose names are joined by bars.
func (l *laboratory) test(ctx context.Context, binary, pkg, names string, timeout time.Duration) (verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, timeout+10*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", "^("+names+")$", "-test.timeout", timeout.String())
	cmd.Dir = filepath.Join(l.root, pkg)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch text := out.String(); {
	case err == nil:
		return missed, text
	case !errors.As(err, &exit) || !strings.Contains(text, "=== RUN"):
		return missed, text + err.Error() // nothing was tested
	case ctx.Err() != nil || strings.Contains(text, "panic: test timed out"):
		return hung, text
	case strings.Contains(text, "panic: ") || strings.Contains(text, "fatal error: "):
		return panicked, text
	default:
		return failed, text
	}
}

// report prints the table, and returns how many mutations were not caught.
func report(w io.Writer, results []result, verbose bool) (wrong int) {
	fmt.Fprintln(w, "| the rule that is taken out | in | the test that has to fail | it | s |")
	fmt.Fprintln(w, "|---|---|---|---|---|")
	for i := range results {
		r := &results[i]
		for j, name := range r.tests {
			rule, where, took, said := r.takesOut, r.symbols(), fmt.Sprintf("%.1f", r.took.Seconds()), verdict("**not tried**")
			if j > 0 {
				rule, where, took = "", "", ""
			}
			if j < len(r.verdicts) {
				said = r.verdicts[j]
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", rule, where, name, said, took)
		}
	}
	for i := range results {
		r := &results[i]
		if !r.caught() {
			wrong++
		}
		switch {
		case r.err != nil:
			fmt.Fprintf(w, "\n%s: %v\n", r.takesOut, r.err)
		case verbose || !r.caught():
			fmt.Fprintf(w, "\n%s:\n%s", r.takesOut, r.output)
		}
	}
	return wrong
}
