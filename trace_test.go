//go:build lockorder

package etcdlock

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

const tracesFile = "docs/design.md"

// traces are the runs whose steps docs/design.md has, by the title of their table.
var traces = map[string]func(w *world, r *trace){
	"Lock on a free name": func(w *world, r *trace) {
		m := NewMutex(w.session("a"), "m")
		w.pass(time.Second)
		r.begin()
		r.show()
		held := start(w, m.Lock).get()
		r.end()
		w.unlock(held.Unlock)
	},
	"Unlock with a waiter in another process": func(w *world, r *trace) {
		a, b := NewMutex(w.session("a"), "m"), NewMutex(w.session("b"), "m")
		r.begin()
		held := start(w, a.Lock).get()
		waiting := start(w, b.Lock)
		w.pass(5 * time.Second)
		r.show()
		start(w, nothing(held.Unlock)).get()
		next := waiting.get()
		r.end()
		w.unlock(next.Unlock)
	},
	"The lease is lost while a lock is held": func(w *world, r *trace) {
		s := w.session("a")
		r.begin()
		held := start(w, NewMutex(s, "m").Lock).get()
		w.pass(5 * time.Second)
		r.starved.Store(true)
		time.Sleep(time.Until(held.Deadline()) - time.Millisecond)
		r.show()
		w.pass(100 * time.Millisecond)
		r.end()
		require.ErrorIs(w, held.Err(), ErrExpired)
	},
	"Run with a transfer": func(w *world, r *trace) {
		a, b := NewElection(w.session("a"), "e"), NewElection(w.session("b"), "e")
		r.begin()
		transfer := make(chan struct{})
		run := func(e *Election, value string, fn func(context.Context, *Term) error) *pending[any] {
			return start(w, nothing(func(ctx context.Context) error { return e.Run(ctx, value, fn) }))
		}
		first := run(a, "a", func(ctx context.Context, term *Term) error {
			<-transfer
			return term.Transfer(ctx, "b")
		})
		w.pass(time.Second)
		leads := make(chan struct{})
		second := run(b, "b", func(context.Context, *Term) error {
			close(leads)
			<-w.ctx.Done()
			return nil
		})
		w.pass(5 * time.Second)
		r.show()
		close(transfer)
		<-leads
		w.pass(20 * time.Millisecond)
		r.end()
		first.cancel()
		second.cancel()
	},
}

// nothing makes a call that returns only an error one for start.
func nothing(call func(context.Context) error) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) { return nil, call(ctx) }
}

// runTrace returns the steps of one of the traces. Requests of b take longer than those of a, so that no
// two steps of different processes are at one instant.
func runTrace(t *testing.T, run func(w *world, r *trace)) (steps []*step) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // an order of steps that is easy to read
	simulateWith(t, simetcd.Config{Seed: 1}, func(w *world) {
		w.Client("a").SetLatency(time.Millisecond, time.Millisecond)
		w.Client("b").SetLatency(1300*time.Microsecond, 1300*time.Microsecond)
		r := record(w)
		run(w, r)
		steps = r.result()
	})
	return steps
}

// traceRow is a line of a table: steps of one goroutine in one function.
type traceRow struct {
	thread, function, file string
	does                   []string
}

func rowsOf(steps []*step) (rows []traceRow) {
	for _, s := range steps {
		last := len(rows) - 1
		if last < 0 || rows[last].thread != s.thread || rows[last].function != s.function {
			rows = append(rows, traceRow{thread: s.thread, function: s.function, file: s.file})
			last++
		}
		rows[last].does = append(rows[last].does, s.does)
	}
	return rows
}

const traceHead = "| goroutine | function | file | does |\n|---|---|---|---|\n"

func linesOf(rows []traceRow) (text string) {
	for _, r := range rows {
		text += fmt.Sprintf("| %s | `%s` | `%s` | %s |\n", r.thread, r.function, r.file, strings.Join(r.does, ", "))
	}
	return text
}

// rowsIn reads a table.
func rowsIn(table string) (rows []traceRow) {
	for line := range strings.Lines(table) {
		c := strings.Split(strings.Trim(line, "| \n"), " | ")
		rows = append(rows, traceRow{c[0], strings.Trim(c[1], "`"), strings.Trim(c[2], "`"), strings.Split(c[3], ", ")})
	}
	return rows
}

// byThread are the steps of each goroutine of a table, in their order.
func byThread(rows []traceRow) map[string][]string {
	steps := make(map[string][]string)
	for _, r := range rows {
		for _, does := range r.does {
			steps[r.thread] = append(steps[r.thread], fmt.Sprintf("%s in %s: %s", r.function, r.file, does))
		}
	}
	return steps
}

// times are when the steps of each goroutine happened.
func times(steps []*step) map[string][]time.Time {
	at := make(map[string][]time.Time)
	for _, s := range steps {
		at[s.thread] = append(at[s.thread], s.at)
	}
	return at
}

// The tables of docs/design.md are what a run does: each goroutine takes these steps in this order, and
// goroutines are in the order of time. After a change that is meant:
// go test -tags lockorder -run TestTheTraces . -update
func TestTheTracesOfTheDesignAreWhatARunDoes(t *testing.T) {
	page, err := os.ReadFile(tracesFile)
	require.NoError(t, err)
	for name, run := range traces {
		t.Run(name, func(t *testing.T) {
			steps := runTrace(t, run)
			before, section, found := strings.Cut(string(page), "\n### "+name+"\n")
			require.True(t, found, "%s has no trace of this name", tracesFile)
			intro, table, found := strings.Cut(section, traceHead)
			require.True(t, found)
			table, after, _ := strings.Cut(table, "\n\n")
			if flag.Lookup("update").Value.String() == "true" {
				page = []byte(before + "\n### " + name + "\n" + intro + traceHead + linesOf(rowsOf(steps)) + "\n" + after)
				return
			}
			rows := rowsIn(table)
			require.Equal(t, byThread(rows), byThread(rowsOf(steps)), "the run:\n%s", linesOf(rowsOf(steps)))
			at := times(steps)
			var last time.Time
			for _, r := range rows {
				for _, does := range r.does {
					require.False(t, at[r.thread][0].Before(last), "%s: %s is too late in the table", r.thread, does)
					last, at[r.thread] = at[r.thread][0], at[r.thread][1:]
				}
			}
		})
	}
	if flag.Lookup("update").Value.String() == "true" {
		require.NoError(t, os.WriteFile(tracesFile, page, 0o600))
	}
}
