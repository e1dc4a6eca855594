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
	"slices"
	"strings"
	"sync"
	"time"
)

// laboratory builds and runs tests, with mutations and without.
type laboratory struct {
	*checkout
	dir      string // for what is built
	parallel int

	combined *combined
	binaries map[string]string        // of combined, by package
	took     map[string]time.Duration // by test, without a mutation
	wrong    map[string]error         // by test that does not pass without a mutation
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

// prepare builds the tests of these mutations with as many as possible of them in one build.
func (l *laboratory) prepare(ctx context.Context, chosen []*mutation) error {
	var tests []string
	for _, m := range chosen {
		tests = append(tests, m.tests...)
	}
	packages, err := l.byPackage(tests)
	if err != nil {
		return err
	}
	chosen = slices.Clone(chosen)
again:
	if l.combined, err = l.combine(chosen); err != nil {
		return err
	}
	overlay, err := l.overlay(inOne, l.combined.texts)
	if err != nil {
		return err
	}
	l.binaries = map[string]string{}
	for pkg := range packages {
		binary, err := l.build(ctx, fmt.Sprint(inOne, len(l.binaries)), pkg, overlay)
		if err == nil {
			l.binaries[pkg] = binary
			continue
		}
		guilty := l.combined.blame(err.Error())
		if len(guilty) == 0 {
			return err
		}
		for _, m := range guilty {
			fmt.Fprintf(os.Stderr, "by itself: %s\n", m.takesOut)
		}
		chosen = slices.DeleteFunc(chosen, func(m *mutation) bool { return slices.Contains(guilty, m) })
		goto again
	}
	l.control(ctx, packages)
	return ctx.Err()
}

// control runs the tests without a mutation, together and those that did not pass once more by
// themselves. A test that does not pass then judges no mutation.
func (l *laboratory) control(ctx context.Context, packages map[string][]string) {
	l.took, l.wrong = map[string]time.Duration{}, map[string]error{}
	for pkg, names := range packages {
		_, out := l.test(ctx, l.binaries[pkg], pkg, strings.Join(names, "|"), "", controlTimeout)
		for _, name := range names {
			took := passed(name, out)
			if took < 0 {
				_, out := l.test(ctx, l.binaries[pkg], pkg, name, "", controlTimeout)
				if took = passed(name, out); took < 0 {
					l.wrong[name] = fmt.Errorf("%s must pass without a mutation\n%s", name, out)
				}
			}
			l.took[name] = took
		}
	}
}

// passed is how long a test took that passed as an output says, and less than 0 otherwise.
func passed(name, out string) time.Duration {
	m := regexp.MustCompile("--- PASS: " + name + ` \((.+)\)`).FindStringSubmatch(out)
	if m == nil {
		return -1
	}
	took, err := time.ParseDuration(m[1])
	if err != nil {
		return -1
	}
	return took
}

// result is what came of a mutation.
type result struct {
	*mutation
	verdicts map[string]verdict // of its tests
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
				said := "caught"
				if !results[i].caught() {
					said = "NOT CAUGHT"
				}
				fmt.Fprintf(os.Stderr, "%s, %.0f s: %s\n", said, results[i].took.Seconds(), chosen[i].takesOut)
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
	return results
}

// try tries one mutation.
func (l *laboratory) try(ctx context.Context, id string, m *mutation) (r result) {
	r.mutation = m
	packages, err := l.byPackage(m.tests)
	if err != nil {
		r.err = err
		return r
	}
	for _, name := range m.tests {
		if r.err = l.wrong[name]; r.err != nil {
			return r
		}
	}
	if number, ok := l.combined.numbers[m]; ok {
		for pkg, names := range packages {
			l.ask(ctx, &r, l.binaries[pkg], pkg, names, number)
		}
		if r.caught() {
			return r
		}
		r.verdicts, r.output = nil, ""
	}
	texts, err := m.apply(l.checkout)
	if err != nil {
		r.err = err
		return r
	}
	overlay, err := l.overlay(id, texts)
	if err != nil {
		r.err = err
		return r
	}
	for pkg, names := range packages {
		binary, err := l.build(ctx, id, pkg, overlay)
		if err != nil {
			r.err = err
			return r
		}
		l.ask(ctx, &r, binary, pkg, names, "")
		_ = os.Remove(binary)
	}
	return r
}

// ask runs tests of a package, each by itself.
func (l *laboratory) ask(ctx context.Context, r *result, binary, pkg string, names []string, number string) {
	if r.verdicts == nil {
		r.verdicts = map[string]verdict{}
	}
	for _, name := range names {
		v, out := l.test(ctx, binary, pkg, name, number, max(hungAfter, time.Duration(hungAfter.Seconds())*l.took[name]))
		r.verdicts[name] = v
		r.output += out
	}
}

// overlay writes the file that tells the go command of the changed ones.
func (l *laboratory) overlay(id string, texts map[string]string) (string, error) {
	replace := make(map[string]string)
	for file, text := range texts {
		changed := filepath.Join(l.dir, overlaid(id, file))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(l.root, file)] = changed
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(l.dir, id+".json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// overlaid is the name of the file that stands for another one, as the compiler says it.
func overlaid(id, file string) string { return id + "-" + strings.ReplaceAll(file, "/", "+") }

// build builds the tests of a package.
func (l *laboratory) build(ctx context.Context, id, pkg, overlay string) (binary string, err error) {
	binary = filepath.Join(l.dir, id+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet", "off", "-ldflags", "-w", "-overlay", overlay, "-o", binary, ".")
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

// test runs tests, with their names joined by bars, with the mutation of a number.
func (l *laboratory) test(ctx context.Context, binary, pkg, names, number string, timeout time.Duration) (verdict, string) {
	ctx, cancel := context.WithTimeout(ctx, timeout+10*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", "^("+names+")$", "-test.timeout", timeout.String())
	cmd.Dir = filepath.Join(l.root, pkg)
	cmd.Env = append(os.Environ(), numberVariable+"="+number)
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
			if v, ok := r.verdicts[name]; ok {
				said = v
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
