// Command mutants takes the library's rules out one by one, and checks that the tests
// which are there for them fail:
//
//	go run ./mutants                  all of them; `make mutants` in the root
//	go run ./mutants -only 'token'    those with a rule that matches
//	go run ./mutants -v -only 'token' and what the tests said
//
// Nothing is written into the checkout: the go command is given the mutated files by its
// -overlay flag. Most mutations are in one build, which the environment chooses from; see
// combined.go. The tests must pass without a mutation. A mutation that does not compile, or
// that does not find its piece of source, is an error.
//
// The files list_*.go have the mutations by area. A mutation names the declarations that it
// changes and the tests that have to fail. It does not name files, so that code and tests
// can move.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"time"
)

func main() {
	var (
		only     = flag.String("only", "", "only the mutations whose rule, symbols or tests match this regular expression")
		parallel = flag.Int("j", runtime.NumCPU(), "how many at a time")
		verbose  = flag.Bool("v", false, "print what the tests said")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *parallel, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, parallel int, verbose bool) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	source, err := openCheckout()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	var chosen []*mutation
	for i := range mutations {
		if m := &mutations[i]; pattern.MatchString(m.String()) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no mutation matches %q", only)
	}

	began := time.Now()
	l := &laboratory{checkout: source, dir: dir, parallel: max(parallel, 1)}
	if err := l.prepare(ctx, chosen); err != nil {
		return err
	}
	results := l.all(ctx, chosen)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wrong := report(os.Stdout, results, verbose)
	fmt.Printf("\n%d mutations, %d caught, in %.0f s.\n", len(results), len(results)-wrong, time.Since(began).Seconds())
	if wrong > 0 {
		return fmt.Errorf("%d of %d mutations were not caught, or could not be tried", wrong, len(results))
	}
	return nil
}
